import numpy as np
import pytest
import torch
from scipy import sparse
from sklearn.datasets import make_blobs
from sklearn.model_selection import KFold
from skorch.callbacks import EarlyStopping
from skorch.dataset import ValidSplit
from torch.utils.data import TensorDataset

from sknoisy import MetaLabelNetClassifier, SyntheticMixClassifier
from sknoisy.metalabelnet.losses import cross_entropy_share
from sknoisy.metalabelnet.noise_estimate import class_priors, limit_noise, noise_rate_from_accuracy
from sknoisy.metalabelnet.trusted import TrustedRows
from sknoisy.neighbor_noise import highest_noise_rate, highest_noise_rate_near
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


def shared_by_neighbors(y, rate, random_state):
    """A wrong label for those of each class that come first: here, those in one region."""
    given = y.copy()
    for label in np.unique(y):
        members = np.flatnonzero(y == label)
        given[members[: round(rate * len(members))]] = (label + 1) % 6
    return given


def blobs_in_order(n, **kwargs):
    """Blobs whose rows are sorted by their first column, and every third of them."""
    X, y = make_blobs(n, **{**CLASSES, **kwargs})
    order = X[:, 0].argsort()
    X, y = X[order], y[order]
    trusted = np.arange(n) % 3 == 0
    return X[~trusted], y[~trusted], X[trusted], y[trusted]


@pytest.mark.slow
@pytest.mark.parametrize("noise", [symmetric_noise, pair_noise, even_to_next, shared_by_neighbors])
@pytest.mark.parametrize("rate", [0.0, 0.1, 0.2, 0.4])
def test_no_more_labels_are_wrong_than_those_beside_trusted_rows(noise, rate):
    """And hardly fewer where classes lie apart; also, about, where neighbors are mistaken alike.

    Rows at the rim, as those are here, are the nearest ones of fewer.
    """
    X, y, *trusted = blobs_in_order(3000)
    given = noise(y, rate, random_state=0)
    wrong = (given != y).mean()
    shares = np.bincount(y) / len(y)
    found = highest_noise_rate_near(*trusted, X, given, priors=shares)
    least = wrong
    if noise is shared_by_neighbors:
        least = 0.7 * wrong
        assert highest_noise_rate(X, given) < max(0.02, 0.7 * wrong)
    assert least <= found <= wrong + 0.06
    X, y, *trusted = blobs_in_order(3000, cluster_std=3.0)
    given = noise(y, rate, random_state=0)
    assert highest_noise_rate_near(*trusted, X, given, priors=shares) >= found - 0.02


def test_classes_count_by_their_shares_however_trusted_rows_were_drawn():
    X, y = make_blobs([1800, 100, 100], n_features=5, cluster_std=4.0, random_state=0)
    X_more, y_more = make_blobs([900, 50, 50], n_features=5, cluster_std=4.0, random_state=0)
    even = np.concatenate([np.flatnonzero(y_more == k)[:50] for k in range(3)])
    alike = highest_noise_rate_near(X_more, y_more, X, y)
    assert highest_noise_rate_near(X_more[even], y_more[even], X, y) == pytest.approx(
        alike, abs=0.05
    )


def test_few_trusted_rows_leave_more_possible_and_chance_all():
    X, y, X_meta, y_meta = blobs_in_order(3000)
    found = [highest_noise_rate_near(X_meta[:n], y_meta[:n], X, y) for n in (12, 100, 1000)]
    assert found == sorted(found, reverse=True)
    assert 0.05 < found[0] < 0.2
    shuffled = np.random.default_rng(0).permutation(y)
    assert highest_noise_rate_near(X_meta, y_meta, X, shuffled) == 1
    assert highest_noise_rate_near(X_meta, y_meta, X[:40], y[:40]) == 1
    assert highest_noise_rate_near(X_meta, y_meta, X, y, torch.zeros(len(y))) == 1


def test_rows_that_weigh_nothing_do_not_answer():
    X, y, *trusted = blobs_in_order(3000)
    weights = torch.arange(len(y)) % 2
    blank = np.where(weights == 0, 0, y)
    expected = highest_noise_rate_near(*trusted, X[1::2], y[1::2])
    assert highest_noise_rate_near(*trusted, X, blank, weights) == pytest.approx(expected)


def test_what_holds_the_rows_and_their_scale_do_not_matter():
    X, y, X_meta, y_meta = blobs_in_order(900, cluster_std=2.0)
    X, X_meta = X.astype(np.float32), X_meta.astype(np.float32)
    expected = highest_noise_rate_near(X_meta, y_meta, X, y)
    assert highest_noise_rate_near(X_meta * 1000 + 3, y_meta, X * 1000 + 3, y) == expected
    dataset = DatasetRows(TensorDataset(torch.from_numpy(X)))
    assert highest_noise_rate_near(X_meta, y_meta, dataset, y) == expected
    for meta in (X_meta, sparse.csr_matrix(X_meta)):
        assert highest_noise_rate_near(meta, y_meta, sparse.csr_matrix(X), y) == expected


def test_trusted_rows_are_no_witnesses_and_classes_count_by_their_true_shares():
    """Each stands beside another; and some classes lose labels to others."""
    X, y, X_meta, y_meta = blobs_in_order(1500)
    given = even_to_next(y, 0.4, random_state=0)
    rows = np.concatenate([X, X_meta, X_meta + 1e-3])
    labels = np.concatenate([given, y_meta, y_meta])
    indices = np.arange(len(X), len(rows))
    trusted = TrustedRows(rows[indices], labels[indices], indices)
    priors = torch.ones(6, dtype=torch.float64) / 6

    def bound():
        return trusted.neighbor_bound(rows, torch.from_numpy(labels), torch.ones(len(rows)), priors)

    wrong = (given != y).mean()
    assert wrong - 0.02 <= bound() <= wrong + 0.06
    assert highest_noise_rate_near(X_meta, y_meta, X, given) < wrong - 0.03
    trusted.indices = None
    assert bound() < 0.5 * wrong


def test_one_row_asked_again_is_one_witness():
    """Ten places, each with its crowd: the nearest other place answers for all of a place."""
    rng = np.random.default_rng(0)
    place = rng.integers(0, 10, 1500)
    X = np.column_stack([place, 20 * (place // 5)]).astype(np.float32)
    y = place // 5
    found = []
    for seed in range(40):
        given = symmetric_noise(y, 0.15, random_state=seed)
        found.append(highest_noise_rate_near(X[:300], y[:300], X[300:], given[300:]))
    assert np.mean(np.less(found, 0.15)) < 0.5
    assert min(found) > 0.05


def odd_ones(X, y, rate):
    """The next class for those of each class that lie farthest from its mean."""
    given = y.copy()
    for label in np.unique(y):
        members = np.flatnonzero(y == label)
        far = np.linalg.norm(X[members] - X[members].mean(0), axis=1).argsort()[::-1]
        given[members[far[: round(rate * len(members))]]] = (label + 1) % (y.max() + 1)
    return given


def test_mistakes_of_rows_that_are_nobodys_nearest_are_left_to_the_other_witness():
    centers = np.random.default_rng(0).normal(size=(8, 50)) * 1.6
    X, y = make_blobs(800, centers=centers, random_state=0)
    y %= 4
    trusted = np.arange(len(y)) < 160
    given = np.where(trusted, y, odd_ones(X, y, 0.2))
    assert highest_noise_rate_near(X[trusted], y[trusted], X[~trusted], given[~trusted]) < 0.13
    clf = MetaLabelNetClassifier(max_epochs=12, warmup_epochs=6, random_state=0)
    clf.fit(X, given, trusted=trusted)
    assert clf.cross_entropy_share_ < 0.3


@pytest.mark.slow
@pytest.mark.parametrize("given_weight", [0.0, 1.0])
def test_labels_beside_trusted_rows_decide_how_they_are_learned(blobs, given_weight):
    """Few wrong ones: by cross-entropy as well; many: as with a limit of 1."""
    X, y, true = blobs
    fast = {"max_epochs": 10, "warmup_epochs": 3, "given_weight": given_weight, "random_state": 0}
    trusted = np.arange(len(y)) % 4 == 0

    def fit(labels, **params):
        labels = np.where(trusted, true, labels)
        clf = MetaLabelNetClassifier(**fast, **params).fit(X, labels, trusted=trusted)
        return clf.predict_proba(X), clf.cross_entropy_share_, clf.noise_rate_

    found, share, rate = fit(y)
    free, _, by_accuracy = fit(y, max_noise_rate=1.0)
    assert share == 0
    assert rate == by_accuracy > 0.2
    np.testing.assert_array_equal(found, free)
    found, share, rate = fit(true)
    assert 0 < share < 1
    assert np.abs(found - fit(true, max_noise_rate=1.0)[0]).max() > 0.01
    assert share <= cross_entropy_share(rate)
    exact = fit(true, max_noise_rate=0.2 * (1 - share))
    assert exact[1] == pytest.approx(share)
    assert fit(y, max_noise_rate=0.05)[1:] == (pytest.approx(0.75), 0.05)


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


def counts_of(shares, right, rate, n=100_000):
    """Tables of a classifier right so often, of labels wrong so often, evenly, in n rows."""
    n_classes = len(shares)

    def spread(share):
        off = (1 - share) / (n_classes - 1)
        return off + (share - off) * torch.eye(n_classes, dtype=torch.float64)

    predicted = spread(right)
    labels = torch.tensor(shares, dtype=torch.float64)[:, None] * spread(1 - rate)
    return n * predicted.T @ labels, predicted


@pytest.mark.parametrize("trusted", [(500, 500, 500), (900, 500, 100)])
def test_class_priors_and_noise_are_told_however_trusted_rows_were_drawn(trusted):
    shares = torch.tensor([0.7, 0.2, 0.1], dtype=torch.float64)
    counts, predicted = counts_of(shares.tolist(), 0.8, 0.3)
    confusion = torch.tensor(trusted)[:, None] * predicted
    found, given = class_priors(counts, confusion), counts.sum(0) / counts.sum()
    assert found.sum() == pytest.approx(1)
    assert (found - shares).abs().sum() < 0.75 * (given - shares).abs().sum()
    rate = noise_rate_from_accuracy(counts, confusion, shares)
    assert 0.3 < rate < 0.3 + 0.06  # a standard error above
    assert noise_rate_from_accuracy(counts, confusion / 20, shares) > rate


def test_trusted_rows_no_better_than_chance_leave_any_noise_possible():
    counts, predicted = counts_of((0.5, 0.5), 0.5, 0.2)
    assert noise_rate_from_accuracy(counts, 50 * predicted, torch.tensor([0.5, 0.5])) == 1
    clean, predicted = counts_of((0.5, 0.5), 0.9, 0.0)
    assert noise_rate_from_accuracy(clean, 1e9 * predicted, torch.tensor([0.5, 0.5])) < 1e-3


def test_no_rows_say_nothing():
    nothing, confusion = torch.zeros(2, 2), torch.tensor([[9.0, 1.0], [1.0, 9.0]])
    shares = class_priors(nothing, confusion)
    assert shares.tolist() == [0.5, 0.5]
    assert noise_rate_from_accuracy(nothing, confusion, shares) == 1
    assert torch.equal(limit_noise(nothing, 0.1), nothing)


def test_limiting_noise_keeps_rows_and_what_is_within_the_limit():
    counts = torch.tensor([[60.0, 20.0, 0.0], [5.0, 10.0, 5.0], [0.0, 0.0, 100.0]])
    limited = limit_noise(counts, 0.075)
    torch.testing.assert_close(limited.sum(1), counts.sum(1))
    assert 1 - limited.diag().sum() / limited.sum() == pytest.approx(0.075)
    torch.testing.assert_close(limited[0, 1], torch.tensor(10.0))
    assert limit_noise(counts, 0.16) is counts
    torch.testing.assert_close(limit_noise(counts, 0.0), counts.sum(1).diag())
