import numpy as np
import pandas as pd
import pytest

from sknoisy.noise import (
    asymmetric_noise,
    instance_dependent_noise,
    pair_noise,
    symmetric_noise,
    transition_noise,
)

Y = np.repeat([0, 1, 2, 3], [100, 203, 50, 7])
PROBS = np.random.default_rng(0).dirichlet(np.ones(4), size=len(Y))


@pytest.mark.parametrize("rate", [0.0, 0.3, 0.5, 1.0])
def test_exclusive_symmetric_noise_has_the_asked_rate(rate):
    wrong = symmetric_noise(Y, rate, random_state=0) != Y
    assert wrong.sum() == int(np.floor(rate * len(Y) + 1e-9))


def test_inclusive_symmetric_noise_keeps_its_share_of_true_labels():
    y = np.arange(20_000) % 4
    wrong = (symmetric_noise(y, 0.4, inclusive=True, random_state=0) != y).mean()
    assert abs(wrong - 0.4 * 3 / 4) < 4 * np.sqrt(0.3 * 0.7 / len(y))
    counts = np.bincount(symmetric_noise(y, 1.0, inclusive=True, random_state=0))
    assert np.abs(counts - len(y) / 4).max() < 4 * np.sqrt(len(y) / 4)


def test_symmetric_noise_spreads_evenly_over_the_other_classes():
    y = np.zeros(30_000, dtype=int)
    y[0] = 1
    y[1] = 2
    counts = np.bincount(symmetric_noise(y, 1.0, random_state=0)[2:], minlength=3)
    assert counts[0] == 0
    assert abs(counts[1] - counts[2]) < 5 * np.sqrt(len(y))


@pytest.mark.parametrize("rate", [0.0, 0.35, 1.0])
def test_pair_noise_moves_a_fixed_count_of_each_class_to_the_next(rate):
    noisy = pair_noise(Y, rate, random_state=0)
    for c, n in enumerate(np.bincount(Y)):
        moved = noisy[(noisy != Y) & (c == Y)]
        assert len(moved) == np.ceil(rate * n - 1e-9)
        assert (moved == (c + 1) % 4).all()


def test_asymmetric_noise_leaves_other_classes_alone():
    y = np.array(["bird", "cat", "dog", "truck"])[Y]
    noisy = asymmetric_noise(y, 0.4, {"cat": "dog", "dog": "cat"}, random_state=0)
    changed = {(a, b) for a, b in zip(y, noisy, strict=True) if a != b}
    assert changed == {("cat", "dog"), ("dog", "cat")}
    assert (noisy != y).sum() == np.ceil(0.4 * 203) + np.ceil(0.4 * 50)


def test_transition_noise_follows_the_matrix_to_the_binomial_bound():
    matrix = np.array([[0.7, 0.3, 0.0], [0.0, 1.0, 0.0], [0.2, 0.2, 0.6]])
    y = np.repeat([0, 1, 2], 5_000)
    noisy = transition_noise(y, matrix, random_state=0)
    for c in range(3):
        realised = np.bincount(noisy[y == c], minlength=3) / 5_000
        bound = 4 * np.sqrt(matrix[c] * (1 - matrix[c]) / 5_000)
        assert (np.abs(realised - matrix[c]) <= bound).all()


def test_instance_dependent_noise_hits_the_most_confusable_rows():
    noisy = instance_dependent_noise(Y, 0.25, PROBS)
    wrong = PROBS.copy()
    wrong[np.arange(len(Y)), Y] = -1
    changed = noisy != Y
    assert changed.sum() == 0.25 * len(Y)
    assert wrong.max(1)[changed].min() >= wrong.max(1)[~changed].max()
    np.testing.assert_array_equal(noisy[changed], wrong.argmax(1)[changed])


ALL = [
    lambda y: symmetric_noise(y, 0.3, random_state=0),
    lambda y: pair_noise(y, 0.3, random_state=0),
    lambda y: transition_noise(y, np.full((4, 4), 0.25), random_state=0),
    lambda y: instance_dependent_noise(y, 0.3, PROBS),
]


@pytest.mark.parametrize("noise", ALL)
@pytest.mark.parametrize(
    "as_labels",
    [
        lambda y: np.array([-5, 2, 3, 70])[y],
        lambda y: np.array(["aa", "b", "cccc", "d"])[y],
        lambda y: ["klm"[min(c, 2)] + str(c) for c in y],
        lambda y: pd.Series(["aa", "b", "cccc", "d"]).iloc[y],
        lambda y: np.array(["aa", "b", "cccc", "d"], dtype=object)[y],
    ],
)
def test_any_label_type_is_relabelled_alike(noise, as_labels):
    labels = as_labels(Y)
    noisy = noise(labels)
    np.testing.assert_array_equal(np.unique(noisy, return_inverse=True)[1], noise(Y))
    assert set(noisy.tolist()) <= set(np.asarray(labels).tolist())


def test_booleans_stay_booleans():
    y = np.arange(10) < 5
    assert symmetric_noise(y, 0.4, random_state=0).dtype == bool


def test_seed_decides_and_the_input_stays():
    before = Y.copy()
    for noise in (symmetric_noise, pair_noise):
        a, b, c = (noise(Y, 0.3, random_state=s) for s in (0, 0, 1))
        np.testing.assert_array_equal(a, b)
        assert (a != c).any()
    np.testing.assert_array_equal(Y, before)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: symmetric_noise(Y, 1.5), "rate == 1.5, must be <= 1"),
        (lambda: symmetric_noise(np.zeros(4), 0.5), "at least 2 classes"),
        (lambda: asymmetric_noise(Y, 0.5, {0: 9}), "class_map must name labels of y, got 9"),
        (lambda: transition_noise(Y, np.eye(3)), r"must have shape .* \(4, 4\), got \(3, 3\)"),
        (lambda: transition_noise(Y, np.ones((4, 4))), "rows that sum to 1"),
        (lambda: symmetric_noise(Y, float("nan")), "rate must be in"),
        (
            lambda: symmetric_noise([1.0, np.nan, 2.0], 0.5),
            "y must hold labels of one type, none of them missing, got nan in row 1",
        ),
        (lambda: instance_dependent_noise(Y, 0.5, -PROBS), "finite and non-negative"),
        (lambda: instance_dependent_noise(Y, 0.5, PROBS[:3]), "pred_probs must have shape"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
