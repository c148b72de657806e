"""The search for the epoch when memorization sets in."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.datasets import make_blobs, make_classification
from skorch.history import History

from sknoisy import ALRClassifier, SyntheticMixClassifier
from sknoisy.alr import auto_momentum
from sknoisy.noise import symmetric_noise
from sknoisy.training.recipe import NetRecipe, auto_max_epochs
from sknoisy.training.targets import SoftTargetLoss
from sknoisy.training.warmup_search import (
    GivenLabels,
    Memorization,
    WarmupSearch,
    halving_epochs,
    reliability,
)


@pytest.fixture(scope="module")
def noisy():
    X, y = make_blobs(300, n_features=20, centers=3, cluster_std=6.0, random_state=0)
    return X.astype(np.float32), symmetric_noise(y, 0.4, random_state=0)


def spied(clf):
    """Return the estimator and a list that will hold the searches it was given."""
    seen, make = [], clf._label_callback

    def watch(search, data):
        seen.append(search)
        return make(search, data)

    clf._label_callback = watch
    return clf, seen


@pytest.mark.slow
def test_a_found_warmup_trains_like_the_same_number_given(noisy):
    for method in (ALRClassifier, SyntheticMixClassifier):
        params = {"max_epochs": 20, "random_state": 0}
        found = method(**params).fit(*noisy)
        params["warmup_epochs"] = found.warmup_epochs_
        if method is ALRClassifier:
            params["momentum"] = found.momentum_
        else:
            params["n_neighbors"] = found.n_neighbors_
        given = method(**params)
        given.fit(*noisy)
        np.testing.assert_array_equal(found.soft_labels_, given.soft_labels_)
        np.testing.assert_array_equal(found.predict_proba(noisy[0]), given.predict_proba(noisy[0]))


@pytest.mark.slow
def test_the_faster_a_network_memorizes_the_earlier_the_warmup_ends(noisy):
    params = {"max_epochs": 60, "random_state": 0}
    fast = ALRClassifier(lr=0.01, **params).fit(*noisy).warmup_epochs_
    slow = ALRClassifier(lr=0.0005, **params).fit(*noisy).warmup_epochs_
    assert 1 <= fast < slow <= 30


@pytest.mark.slow
def test_a_search_ends_soon_after_the_lowest_loss_and_leaves_the_network_alone(noisy, monkeypatch):
    nets, make = [], NetRecipe.search_net

    def remember(*args, **params):
        nets.append(make(*args, **params))
        return nets[-1]

    monkeypatch.setattr(NetRecipe, "search_net", remember)
    clf = ALRClassifier(lr=0.01, max_epochs=200, random_state=0).fit(*noisy)
    (net,) = nets
    losses = net.history[:, "valid_loss"]
    assert clf.warmup_epochs_ == 1 + int(np.argmin(losses))
    assert len(losses) <= clf.warmup_epochs_ + 110 // 3 + 1 < 100
    assert net.module_ is not clf.module_
    assert clf.n_iter_ == 200


def test_rows_of_train_split_are_the_yardstick_where_there_is_one(noisy):
    from skorch.dataset import ValidSplit

    calls = []

    class Split(ValidSplit):
        def __call__(self, dataset, y=None, groups=None):
            calls.append(len(dataset))
            return super().__call__(dataset, y, groups)

    ALRClassifier(max_epochs=8, train_split=Split(5), random_state=0).fit(*noisy)
    assert calls == [300, 300]  # the search's and the fit's


def test_few_rows_or_epochs_need_no_search():
    def search(n_rows, max_epochs, steps_per_epoch):
        recipe = SimpleNamespace(steps_per_epoch=steps_per_epoch, max_epochs=max_epochs)
        return WarmupSearch(recipe, SimpleNamespace(labels=np.zeros(n_rows)), None, seed=0)

    assert search(40, 100, 1).memorization() == (20, None, 1.0)
    few_epochs = search(400, 3, 4)
    assert few_epochs.memorization().begins == 1
    assert [few_epochs.epochs_of(steps) for steps in (1, 8, 65)] == [1, 2, 16]


def test_a_diverging_search_ends_the_warmup_after_one_epoch(noisy):
    X, y = noisy
    with pytest.warns(UserWarning, match="Lower lr"):
        clf = ALRClassifier(optimizer=torch.optim.SGD, lr=1e30, max_epochs=6, random_state=0).fit(
            X, y
        )
    assert clf.warmup_epochs_ == 1


def memorization_of(X, y):
    clf, seen = spied(ALRClassifier(max_epochs=40, random_state=0))
    clf.fit(X.astype(np.float32), y)
    (search,) = seen
    return search.memorization()


@pytest.mark.slow
def test_noise_leaves_predictions_reliable_and_unknown_classes_do_not():
    X, y = make_blobs(1000, n_features=8, centers=4, cluster_std=2.0, random_state=0)
    half = np.arange(1000) < 500
    rng = np.random.default_rng(0)
    for noise in (0.0, 0.3, 0.6):
        assert memorization_of(X, symmetric_noise(y, noise, random_state=0)).reliability > 0.8
    X[half] = 20 + rng.normal(size=(500, 8))  # tells nothing of their class
    assert memorization_of(X, y).reliability < 0.7


def test_rows_that_weigh_nothing_are_not_asked_how_sure_predictions_are():
    targets, weights = torch.eye(2).repeat(10, 1), torch.tensor([0.0, 2.0]).repeat(10)
    net = SimpleNamespace(criterion_=SoftTargetLoss(targets, weights), device="cpu")
    net.history = History()
    net.history.new_epoch()
    callback = GivenLabels()
    callback.on_epoch_begin(net)
    logits = torch.tensor([[9.0, 0.0], [0.0, 1.0]]).repeat(10, 1)  # surest where it does not count
    callback.on_batch_end(net, (None, torch.arange(20)), training=False, y_pred=logits)
    callback.on_epoch_end(net)
    expected = 1 / torch.tensor(1.0).sigmoid().item()  # all agree, with the lesser confidence
    assert net.history[-1, "reliability"] == pytest.approx(expected)
    assert reliability(torch.ones(3), torch.zeros(3), torch.zeros(3)) == 1


@pytest.mark.slow
def test_the_reliability_is_that_of_rows_that_weigh():
    X, y = make_blobs(600, n_features=8, centers=4, cluster_std=2.0, random_state=0)
    weights = np.where(np.arange(600) < 300, 0, 1)
    wrong = np.where(weights, y, np.random.default_rng(0).permutation(y))

    def found(y, weights=None):
        clf, seen = spied(ALRClassifier(max_epochs=20, random_state=0))
        clf.fit(X.astype(np.float32), y, weights)
        return seen[0].memorization()

    np.testing.assert_allclose(found(wrong, weights), found(y, weights), rtol=1e-4)
    assert found(wrong).reliability < found(wrong, weights).reliability


@pytest.mark.slow
def test_a_network_without_dropout_memorizes_faster(noisy):
    def halving(**params):
        clf, seen = spied(ALRClassifier(max_epochs=60, random_state=0, **params))
        clf.fit(*noisy)
        return seen[0].memorization().halving_epochs

    assert halving(module__dropout=0.0) < halving() < np.inf


def test_the_epochs_in_which_a_loss_halves_are_read_off_its_ends():
    assert halving_epochs([4.0, 2.0]) == 1
    assert halving_epochs([4.0, 3.9, 3.0, 2.0, 1.0]) == 2
    assert halving_epochs([1.0, 0.9]) == pytest.approx(6.579, abs=1e-3)
    for losses in ([1.0], [1.0, 1.0], [1.0, 2.0], [1.0, np.nan], [np.nan, 1.0], [1.0, 0.0]):
        assert halving_epochs(losses) == np.inf


def test_labels_are_corrected_before_they_are_memorized():
    def half_life(*args):
        return np.log(0.5) / np.log(auto_momentum(100, Memorization(5, *args)))

    assert half_life(80.0) == pytest.approx(8)  # a tenth
    assert half_life(80.0, 0.5) == pytest.approx(16)  # a fifth where predictions are unreliable
    assert half_life(10.0, 0.5) == pytest.approx(6.6)
    assert auto_momentum(100, Memorization(5, 1.0)) == 0.7
    assert auto_momentum(100, Memorization(5, np.inf)) == 0.97
    assert auto_momentum(12, Memorization(5, np.inf)) == pytest.approx(0.5 ** (1 / 4))
    X, y = make_blobs(40, 3, centers=2, random_state=0)  # too few rows for a search
    assert ALRClassifier(random_state=0, max_epochs=100).fit(X, y).momentum_ == 0.9


def test_samplers_made_for_all_rows_stay_out_of_the_search(noisy):
    sampler = torch.utils.data.WeightedRandomSampler(np.ones(300), 300)
    for params in (
        {"iterator_train__sampler": sampler, "iterator_train__shuffle": False},
        {"iterator_train__drop_last": True, "batch_size": 290},
    ):
        ALRClassifier(max_epochs=4, random_state=0, **params).fit(*noisy)


@pytest.mark.slow
def test_few_rows_of_many_classes_get_more_epochs():
    assert auto_max_epochs(steps_per_epoch=30, n_classes=10) == 50
    assert auto_max_epochs(steps_per_epoch=10, n_classes=10) == 100
    assert auto_max_epochs(steps_per_epoch=1, n_classes=3) == 200
    X, y = make_classification(300, 8, n_informative=6, n_classes=4, random_state=0)
    assert ALRClassifier(random_state=0).fit(X, y).n_iter_ == 134  # 400 steps, 3 an epoch
    assert ALRClassifier(random_state=0, max_epochs=7, warmup_epochs=1).fit(X, y).n_iter_ == 7
