"""The search for the epoch when memorization sets in."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits, make_blobs, make_classification

from sknoisy import ALRClassifier, SyntheticMixClassifier
from sknoisy.noise import pair_noise, symmetric_noise
from sknoisy.training.recipe import NetRecipe
from sknoisy.training.refine_labels import auto_momentum
from sknoisy.training.refinement import Refinement
from sknoisy.training.warmup_search import WarmupSearch, best_epoch


@pytest.fixture(scope="module")
def noisy():
    X, y = make_blobs(300, n_features=20, centers=3, cluster_std=6.0, random_state=0)
    return X.astype(np.float32), symmetric_noise(y, 0.4, random_state=0)


@pytest.mark.slow
def test_a_found_warmup_trains_like_the_same_number_given(noisy):
    for method in (ALRClassifier, SyntheticMixClassifier):
        params = {"max_epochs": 20, "random_state": 0, "evidence": False}
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
    params = {"max_epochs": 60, "random_state": 0, "evidence": False}
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
    clf = ALRClassifier(lr=0.01, max_epochs=200, random_state=0, evidence=False).fit(*noisy)
    (net,) = nets
    losses = net.history[:, "valid_loss"]
    assert clf.warmup_epochs_ == 1 + int(np.argmin(losses))
    assert len(losses) <= clf.warmup_epochs_ + 55 // 3 + 1 < 100
    assert net.module_ is not clf.module_
    assert clf.n_iter_ == 200


def test_rows_of_train_split_are_the_yardstick_where_there_is_one(noisy):
    from skorch.dataset import ValidSplit

    calls = []

    class Split(ValidSplit):
        def __call__(self, dataset, y=None, groups=None):
            calls.append(len(dataset))
            return super().__call__(dataset, y, groups)

    ALRClassifier(max_epochs=8, train_split=Split(5), random_state=0, evidence=False).fit(*noisy)
    assert calls == [300, 300]  # the search's and the fit's


def test_few_rows_or_epochs_need_no_search():
    def search(n_rows, max_epochs, steps_per_epoch):
        recipe = NetRecipe(None, 2, None, None, {}, steps_per_epoch, max_epochs)
        return WarmupSearch(recipe, SimpleNamespace(labels=np.zeros(n_rows)), None, seed=0)

    assert search(40, 100, 1).warmup_epochs() == 20
    few_epochs = search(400, 3, 4)
    assert few_epochs.warmup_epochs() == 1
    assert [few_epochs.epochs_of(steps) for steps in (1, 8, 65)] == [1, 2, 16]


def test_a_diverging_search_ends_the_warmup_after_one_epoch(noisy):
    X, y = noisy
    with pytest.warns(UserWarning, match="Lower lr"):
        clf = ALRClassifier(optimizer=torch.optim.SGD, lr=1e30, max_epochs=6, random_state=0).fit(
            X, y
        )
    assert clf.warmup_epochs_ == 1


def test_the_best_epoch_is_that_of_the_lowest_finite_loss():
    assert best_epoch([3.0, 1.0, 2.0]) == 2
    assert best_epoch([np.nan, np.inf, 9.0]) == 3
    assert best_epoch([np.nan, np.inf]) == 1


def test_the_epochs_hold_five_half_lives_of_a_given_label():
    for epochs in (15, 20, 30):
        assert auto_momentum(epochs) ** epochs == pytest.approx(0.5**5)
    assert (auto_momentum(0), auto_momentum(5), auto_momentum(100)) == (0.7, 0.7, 0.9)
    X, y = make_blobs(40, 3, centers=2, random_state=0)
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
    assert Refinement.auto(steps_per_epoch=60, n_classes=10) == Refinement(15, 15)
    assert Refinement.auto(steps_per_epoch=10, n_classes=10) == Refinement(30, 72)
    assert Refinement.auto(steps_per_epoch=1, n_classes=4) == Refinement(100, 100)
    rare = Refinement.auto(steps_per_epoch=20, n_classes=2, rarest=0.05)
    assert rare == Refinement(30, 30)  # batches of it; two classes settle by then, or never
    assert Refinement.auto(100, 2, rarest=1e-4).least == 15  # 1,000 steps
    X, y = make_classification(300, 8, n_informative=6, n_classes=4, random_state=0)
    found = SyntheticMixClassifier(random_state=0).fit(X, y)
    refined = Refinement.auto(3, 4, np.bincount(y).min() / 300).least  # 120 steps and a few more
    assert found.n_iter_ == found.warmup_epochs_ + refined
    assert SyntheticMixClassifier(random_state=0, warmup_epochs=2).fit(X, y).n_iter_ == 2 + refined
    plain = ALRClassifier(random_state=0, momentum=1.0, entropy_weight=0.0)
    assert plain.fit(X, y).n_iter_ == 2 * refined  # there is no warm-up to find
    assert ALRClassifier(random_state=0, max_epochs=7, warmup_epochs=1).fit(X, y).n_iter_ == 7


@pytest.mark.slow
def test_refinement_goes_on_until_labels_have_settled():
    X, y = (part[:1200] for part in load_digits(return_X_y=True))
    refined = {}
    for noise in (symmetric_noise, pair_noise):
        given = noise(y, 0.35, random_state=0)
        clf = ALRClassifier(random_state=0, evidence=False, warmup_epochs=10).fit(X, given)
        refinement = Refinement.auto(10, 10, np.bincount(given).min() / 1200)
        changed = clf.history_[:, "labels_changed"]
        ends = range(10 + refinement.least, len(changed) + 1)
        moved = [np.ptp(changed[k - 11 : k]) for k in ends]
        assert moved.pop() < 0.005
        assert all(m >= 0.005 for m in moved)
        refined[noise] = len(ends)
    assert 1 <= refined[symmetric_noise] < refined[pair_noise]


@pytest.mark.slow
def test_labels_settle_only_where_they_could_have_changed():
    X, y = make_blobs(300, 4, centers=6, random_state=0)
    params = {"evidence": False, "warmup_epochs": 1, "batch_size": 32, "random_state": 0}
    clf = ALRClassifier(momentum=0.95, **params).fit(X, y)
    least, half_life = 1 + clf._labels.settles_after, 14
    assert least < 1 + half_life + 10 <= clf.n_iter_ < clf.net_.max_epochs
