import numpy as np
import pytest
import torch
from scipy import sparse
from sklearn.datasets import make_blobs
from sklearn.model_selection import KFold
from skorch.callbacks import EarlyStopping
from skorch.dataset import ValidSplit
from torch.utils.data import TensorDataset

from sknoisy import SyntheticMixClassifier
from sknoisy.neighbor_noise import highest_noise_rate
from sknoisy.noise import pair_noise, symmetric_noise
from sknoisy.training.datasets import DatasetRows

CLASSES = {"n_features": 5, "centers": 6, "random_state": 0}


def even_to_next(y, rate, random_state):
    """Noise of some classes alone."""
    given = pair_noise(y, rate, random_state=random_state)
    return np.where(y % 2 == 0, given, y)


@pytest.mark.slow
@pytest.mark.parametrize("noise", [symmetric_noise, pair_noise, even_to_next])
@pytest.mark.parametrize("rate", [0.0, 0.1, 0.2, 0.4])
def test_no_more_labels_are_wrong_than_neighbors_disagree(noise, rate):
    """Up to chance; and they disagree at most twice as often where classes lie apart."""
    X, y = make_blobs(2000, **CLASSES)
    given = noise(y, rate, random_state=0)
    wrong = (given != y).mean()
    found = highest_noise_rate(X, given)
    assert wrong - 0.02 <= found
    assert found <= 2 * wrong + 0.02 or (found == 1 and wrong > 0.25)
    overlapping, y = make_blobs(2000, **CLASSES, cluster_std=3.0)
    assert highest_noise_rate(overlapping, noise(y, rate, random_state=0)) >= found - 0.02


def test_labels_by_chance_and_few_rows_bound_nothing():
    X, y = make_blobs(500, **CLASSES)
    assert highest_noise_rate(X, np.random.default_rng(0).permutation(y)) == 1
    assert highest_noise_rate(X[:40], y[:40]) == 1
    assert highest_noise_rate(np.ones((500, 5)), y) == 1  # one row, again and again


def test_repeated_rows_are_no_witnesses_and_weights_count_like_them():
    X, y = make_blobs(400, **CLASSES, cluster_std=2.0)
    y = symmetric_noise(y, 0.1, random_state=0)
    times = np.random.default_rng(0).integers(0, 4, len(y))
    X = (X - X.repeat(times, 0).mean(0)) / X.repeat(times, 0).std(0)
    weighted = highest_noise_rate(X, y, torch.from_numpy(times))
    assert highest_noise_rate(X.repeat(times, 0), y.repeat(times)) == pytest.approx(
        weighted, abs=0.01
    )
    blank = np.where(times == 0, 0, y)  # labels that weigh nothing
    assert highest_noise_rate(X, blank, torch.from_numpy(times)) == weighted


def test_rows_tell_of_the_noise_as_far_as_they_weigh():
    X, y = make_blobs(1000, **CLASSES)
    y[y < 3] = symmetric_noise(y[y < 3], 0.3, random_state=0)  # labels of one half
    found = [
        highest_noise_rate(X, y, torch.from_numpy(np.where(y < 3, weight, 1.0)))
        for weight in (0.0, 0.1, 1.0)
    ]
    assert found[0] < 0.02
    assert found[0] < found[1] < 0.5 * found[2]
    assert found[2] == highest_noise_rate(X, y)


def test_columns_are_standardized_whatever_holds_the_rows():
    X, y = make_blobs(600, **CLASSES, cluster_std=2.0)
    X = X.astype(np.float32)
    expected = highest_noise_rate(X, y)
    assert highest_noise_rate(X * 1000 + 3, y) == expected
    assert highest_noise_rate(X.reshape(600, 1, 5, 1), y) == expected
    assert highest_noise_rate(DatasetRows(TensorDataset(torch.from_numpy(X))), y) == expected
    assert highest_noise_rate(sparse.csr_matrix(X), y) == expected


@pytest.mark.slow
def test_text_is_compared_as_it_is():
    topics = np.random.default_rng(0).integers(0, 6, 600)
    words = sparse.random(600, 60_000, 0.001, random_state=0, format="csr")
    text = sparse.hstack([sparse.csr_matrix(5 * np.eye(6)[topics]), words], format="csr")
    assert highest_noise_rate(text, topics) < 0.1
    assert highest_noise_rate(text, np.roll(topics, 7)) == 1


@pytest.mark.slow
def test_labels_are_corrected_no_further_than_the_noise_can_reach(blobs):
    X, y, true = blobs
    fast = {"max_epochs": 12, "warmup_epochs": 1, "mix_start": 3, "target_update_every": 1}
    fast |= {"target_momentum": 0.5, "random_state": 0}
    free = SyntheticMixClassifier(**fast, max_noise_rate=1.0).fit(X, y)
    assert (free.soft_labels_.argmax(1) != y).mean() > 0.2
    kept = SyntheticMixClassifier(**fast, max_noise_rate=0.1).fit(X, y)
    moved = kept.soft_labels_[np.arange(len(y)), y] < 1
    assert moved.mean() == pytest.approx(0.1)
    least = np.sort(free.soft_labels_[np.arange(len(y)), y])[moved.sum() - 1]
    assert (free.soft_labels_[np.arange(len(y)), y][moved] <= least).all()  # the least probable
    np.testing.assert_array_equal(kept.soft_labels_[moved], free.soft_labels_[moved])
    clean = SyntheticMixClassifier(**fast).fit(X, true)
    assert clean.max_noise_rate_ < 0.3
    assert (clean.soft_labels_.argmax(1) != true).mean() <= clean.max_noise_rate_
    assert SyntheticMixClassifier(**fast).fit(X, y).max_noise_rate_ > 0.3


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Training ended with epoch")
@pytest.mark.parametrize("folds", [2, 5])
def test_rows_held_out_and_an_early_end_leave_the_limit_in_force(blobs, folds):
    X, y, _ = blobs
    fast = {"max_epochs": 12, "warmup_epochs": 1, "mix_start": 3, "target_update_every": 1}
    fast |= {"random_state": 0, "train_split": ValidSplit(KFold(folds))}  # the first ones
    clf = SyntheticMixClassifier(**fast, max_noise_rate=0.1)
    trained = np.arange(len(y)) >= len(y) // folds
    for callbacks in (None, [EarlyStopping("train_loss", patience=1, threshold=0.5)]):
        clf.set_params(callbacks=callbacks).fit(X, y)
        moved = clf.soft_labels_[np.arange(len(y)), y] < 1
        assert moved[trained].mean() == pytest.approx(0.1, abs=0.005)
    assert 3 <= clf.n_iter_ < 9  # while mixing


def test_rows_that_weigh_nothing_get_their_label_back(blobs):
    X, y, _ = blobs
    fast = {"max_epochs": 12, "warmup_epochs": 1, "mix_start": 3, "target_update_every": 1}
    weights = np.arange(len(y)) % 3
    clf = SyntheticMixClassifier(**fast, max_noise_rate=0.1, random_state=0)
    moved = clf.fit(X, y, sample_weight=weights).soft_labels_[np.arange(len(y)), y] < 1
    assert not moved[weights == 0].any()
    assert weights[moved].sum() / weights.sum() == pytest.approx(0.1, abs=0.005)
