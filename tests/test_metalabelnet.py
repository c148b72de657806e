import copy
import pickle
import warnings
import weakref

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse
from sklearn import config_context
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.datasets import make_blobs
from sklearn.model_selection import GridSearchCV, KFold, StratifiedKFold, cross_validate
from sklearn.preprocessing import StandardScaler
from skorch.callbacks import Callback, Checkpoint, EarlyStopping
from skorch.dataset import ValidSplit
from torch import nn
from torch.nn.functional import cross_entropy, kl_div

from sknoisy import ALRClassifier, MetaLabelNetClassifier, make_noisy_pipeline
from sknoisy.functional import BatchLabels
from sknoisy.metalabelnet.callback import CorrectLabels
from sknoisy.metalabelnet.classifier import auto_meta_batch_size, auto_virtual_lr
from sknoisy.metalabelnet.label_net import corrected
from sknoisy.metalabelnet.losses import (
    generated_labels_loss,
    given_labels_loss,
    with_trusted_rows,
)
from sknoisy.metalabelnet.trusted import (
    TrustedBatches,
    class_weights,
    small_losses,
    stratified_order,
)
from sknoisy.noise import pair_noise
from sknoisy.training.targets import SoftTargetLoss

FAST = {"max_epochs": 6, "warmup_epochs": 2, "module__hidden": 16, "random_state": 0}


@pytest.fixture
def split(blobs):
    """X, noisy labels, true labels, and forty trusted rows: X_meta, y_meta."""
    X, y, true = blobs
    return X[40:], y[40:], true[40:], X[:40], true[:40]


def test_entropy_weight_one_leaves_the_reverse_cross_entropy():
    logits, targets = torch.randn(5, 3), torch.rand(5, 3).softmax(1)
    p = logits.softmax(1)
    reverse = -(p * targets.log()).sum(1).mean()
    torch.testing.assert_close(
        generated_labels_loss(logits, BatchLabels(targets), entropy_weight=1.0, scale=1.0), reverse
    )
    entropy = -(p * p.log()).sum(1).mean()
    kl = kl_div(targets.log(), p, reduction="batchmean")
    torch.testing.assert_close(
        generated_labels_loss(logits, BatchLabels(targets), entropy_weight=0.3, scale=1.0),
        kl + 0.3 * entropy,
    )
    torch.testing.assert_close(
        generated_labels_loss(logits, BatchLabels(targets), entropy_weight=1.0, scale=1 / 3),
        reverse / 3,
    )


def test_rows_without_a_label_have_no_loss():
    logits = torch.randn(4, 3)
    targets = torch.eye(3)[[0, 1, 2, 2]]
    with_blank = targets.clone()
    with_blank[1] = 0
    expected = given_labels_loss(logits[[0, 2, 3]], BatchLabels(targets[[0, 2, 3]]))
    torch.testing.assert_close(given_labels_loss(logits, BatchLabels(with_blank)), expected)
    assert given_labels_loss(logits, BatchLabels(torch.zeros(4, 3))) == 0


def test_trusted_rows_beside_the_batch_add_their_cross_entropy():
    logits, targets = torch.randn(6, 3), torch.eye(3)[[0, 1, 2, 0, 1, 2]]
    loss = with_trusted_rows(
        logits, BatchLabels(targets), loss=given_labels_loss, n_trusted=2, trusted_weight=0.5
    )
    expected = given_labels_loss(logits[:4], BatchLabels(targets[:4]))
    expected = expected + 0.5 * given_labels_loss(logits[4:], BatchLabels(targets[4:]))
    torch.testing.assert_close(loss, expected)


def test_stratified_order_spreads_classes_evenly():
    labels = torch.tensor([0] * 80 + [1] * 20)
    order = stratified_order(labels, np.random.default_rng(0))
    assert sorted(order.tolist()) == list(range(100))
    for stretch in labels[order].split(20):
        assert abs((stretch == 1).sum() - 4) <= 1


def test_trusted_batches_leave_no_row_out_and_a_small_set_comes_whole():
    batches = TrustedBatches(torch.arange(10) % 2, 4, np.random.default_rng(0))
    drawn = torch.cat([batches.draw() for _ in range(5)])
    assert sorted(drawn[:10].tolist()) == list(range(10))
    assert sorted(drawn[10:].tolist()) == list(range(10))
    assert sorted(TrustedBatches(torch.zeros(3), 9, np.random.default_rng(0)).draw().tolist()) == [
        0,
        1,
        2,
    ]


def test_of_each_class_a_tenth_of_its_rows_stands_in_and_one_at_least():
    losses = torch.arange(32.0).flip(0)
    labels = torch.tensor([0] * 30 + [1] * 2)
    assert sorted(small_losses(losses, labels).tolist()) == [27, 28, 29, 31]
    many = small_losses(torch.rand(2000), torch.zeros(2000, dtype=torch.int64))
    assert len(many) == 50


def test_auto_virtual_lr_is_ten_effective_steps_and_at_least_one():
    SGD, AdamW = torch.optim.SGD, torch.optim.AdamW
    assert auto_virtual_lr(SGD, 0.05, {"momentum": 0.9}) == pytest.approx(5)
    assert auto_virtual_lr(SGD, 0.2, {}) == pytest.approx(2)
    assert auto_virtual_lr(AdamW, 0.05, {}) == pytest.approx(5)
    assert auto_virtual_lr(AdamW, 0.002, {}) == 1


def test_auto_meta_batch_size_is_three_eighths_of_a_batch_and_never_tiny():
    assert [auto_meta_batch_size(n) for n in (128, 64, 16, 1, -1)] == [48, 32, 16, 1, 1024]


def test_a_module_without_a_hidden_layer_gets_a_warning(split):
    X, y, _, X_meta, y_meta = split
    clf = MetaLabelNetClassifier(nn.Sequential(nn.BatchNorm1d(10), nn.Linear(10, 4)), max_epochs=2)
    with pytest.warns(UserWarning, match="module should have a hidden layer, got none"):
        clf.fit(X, y, meta_X=X_meta, meta_y=y_meta)


@pytest.mark.slow
def test_labels_get_cleaner(split):
    X, y, true, X_meta, y_meta = split
    clf = MetaLabelNetClassifier(max_epochs=60, random_state=0)
    clf.fit(X, y, meta_X=X_meta, meta_y=y_meta)
    assert (clf.soft_labels_.argmax(1) == true).mean() > (y == true).mean() + 0.05
    assert clf.score(X, true) > (y == true).mean() + 0.05
    np.testing.assert_allclose(clf.soft_labels_.sum(1), 1, atol=1e-5)
    assert clf.hypergradient_ == "jvp"
    assert (clf.n_meta_, clf.best_epoch_, clf.n_iter_) == (40, 60, 60)
    assert clf.label_net_.out_features == 4
    assert 0 <= clf.history_[-1, "meta_accuracy"] <= 1


def test_the_label_network_learns_at_its_own_rate(split):
    X, y, _, X_meta, y_meta = split

    def weights(meta_lr, epochs):
        clf = MetaLabelNetClassifier(**{**FAST, "max_epochs": epochs}, meta_lr=meta_lr)
        return clf.fit(X, y, meta_X=X_meta, meta_y=y_meta).label_net_.weight

    assert not weights(0.0, 6).any()
    step = weights(1e-3, 3).abs().max()
    assert 1e-3 < step < 1e-3 * 3 * 5  # Adam moves a weight by at most about its rate a step


def test_generated_labels_do_not_read_the_noisy_ones(split):
    """With the warm-up's weights fixed, stage 2 is the same whatever the labels."""
    X, y, _, X_meta, y_meta = split
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(10, 8), nn.ReLU(), nn.Linear(8, 4))

    def fit(labels):
        clf = MetaLabelNetClassifier(
            module,
            max_epochs=5,
            warmup_epochs=1,
            labels="generated",
            class_prior="trusted",
            random_state=0,
        )
        make = clf._label_callback

        def without_warmup(*args):
            callback = make(*args)
            callback.warmup_epochs = 0
            return callback

        clf._label_callback = without_warmup
        return clf.fit(X, labels, meta_X=X_meta, meta_y=y_meta)

    first, second = fit(y), fit(np.random.default_rng(0).integers(0, 4, len(y)))
    np.testing.assert_array_equal(first.soft_labels_, second.soft_labels_)
    np.testing.assert_array_equal(first.predict_proba(X), second.predict_proba(X))
    assert len(set(first.soft_labels_.argmax(1))) > 1


def without_draws():
    """Parameters of fits that draw nothing after the initial weights: all rows, no dropout."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(10, 16), nn.Tanh(), nn.Linear(16, 4))
    params = {"module": module, "max_epochs": 30, "warmup_epochs": 10, "batch_size": -1}
    return {**params, "lr": 0.02, "random_state": 0, "evidence": False}


def test_with_a_label_network_that_learns_nothing_labels_are_refined_as_by_alr(split):
    X, y, _, X_meta, y_meta = split
    common = without_draws()
    meta = MetaLabelNetClassifier(meta_lr=0.0, trusted_weight=0.0, **common)
    meta.fit(X, y, meta_X=X_meta, meta_y=y_meta)
    alr = ALRClassifier(**common).fit(X, y)
    np.testing.assert_allclose(meta.soft_labels_, alr.soft_labels_, atol=1e-3)
    assert abs(alr.soft_labels_ - np.eye(4)[y]).max() > 0.1
    labels = CorrectLabels(meta_lr=0.0)
    assert (labels.momentum, labels.entropy_weight) == (0.9, 0.5)
    assert meta.momentum_ == alr.momentum_


@pytest.mark.slow
@pytest.mark.parametrize("params", [{}, {"momentum": 1.0}])
def test_without_trusted_rows_a_fit_is_that_of_alr(params):
    X, y = make_blobs(300, 6, centers=4, cluster_std=3.5, random_state=0)
    y = pair_noise(y, 0.35, random_state=0)
    params = {"module__hidden": 16, "evidence": False, "random_state": 0, **params}
    with pytest.warns(UserWarning, match="No trusted rows"):
        meta = MetaLabelNetClassifier(**params).fit(X, y)
    alr = ALRClassifier(**params).fit(X, y)
    assert meta.n_iter_ == alr.n_iter_
    np.testing.assert_allclose(meta.soft_labels_, alr.soft_labels_, atol=1e-4)
    np.testing.assert_allclose(meta.predict_proba(X), alr.predict_proba(X), atol=1e-4)


@pytest.mark.slow
def test_with_few_trusted_rows_labels_are_refined_until_they_settle():
    X, y = make_blobs(300, 6, centers=4, cluster_std=3.5, random_state=0)
    y = pair_noise(y, 0.35, random_state=0)
    params = {"module__hidden": 16, "evidence": False, "random_state": 0}
    params |= {"meta_batch_size": 20, "warmup_epochs": 20}
    few, enough, generated = (
        MetaLabelNetClassifier(**params, labels=labels).fit(X, y, trusted=np.arange(300) < n)
        for n, labels in ((19, "refined"), (20, "refined"), (19, "generated"))
    )
    assert few.n_iter_ > enough.n_iter_
    assert few.momentum_ == enough.momentum_
    least = enough.n_iter_ - enough.warmup_epochs_
    assert generated.n_iter_ - generated.warmup_epochs_ == least


@pytest.mark.slow
def test_the_label_network_turns_labels_to_what_trusted_rows_say(split):
    """Where all given labels are wrong in the same way, trusted rows alone can tell."""
    X, _, true, X_meta, y_meta = split
    wrong = np.where(true == 0, np.where(X[:, 0] > np.median(X[true == 0, 0]), 1, 0), true)
    params = {"max_epochs": 25, "warmup_epochs": 10, "trusted_weight": 0.0, "meta_every": 1}
    params |= {"module__hidden": 64, "random_state": 0}

    def right(meta_lr):
        clf = MetaLabelNetClassifier(meta_lr=meta_lr, **params)
        clf.fit(X, wrong, meta_X=X_meta, meta_y=y_meta)
        return (clf.soft_labels_.argmax(1) == true)[wrong != true].mean()

    assert right(0.02) > right(0.0) + 0.4


class RememberWeights(Callback):
    """Keeps what trusted rows of each class count in each epoch."""

    def on_train_begin(self, net, **kwargs):
        self.weights_ = []

    def on_epoch_end(self, net, **kwargs):
        labels = net.label_callback
        self.weights_.append(labels.class_weights_)


def remembered(clf, *args, **fit_params):
    clf = clf.set_params(callbacks=[("remember", RememberWeights())])
    return dict(clf.fit(*args, **fit_params).net_.callbacks_)["remember"]


def test_trusted_rows_count_in_the_shares_of_the_training_rows_however_they_were_drawn(blobs):
    X, _, true = blobs
    X, true = X[true < 2], true[true < 2]  # two classes
    rare = np.flatnonzero(true == 1)[60:]
    X, true = np.delete(X, rare, axis=0), np.delete(true, rare)
    share = (true == 1).mean()
    for n_rare in (10, 30):
        rows = np.r_[np.flatnonzero(true == 0)[:30], np.flatnonzero(true == 1)[:n_rare]]
        given = {"meta_X": X[rows], "meta_y": true[rows]}
        params = FAST
        weights = remembered(MetaLabelNetClassifier(**params), X, true, **given).weights_[-1]
        counted = weights[1] * n_rare / (weights[0] * 30 + weights[1] * n_rare)
        assert counted == pytest.approx(share, abs=0.03)
        assert (weights[0] * 30 + weights[1] * n_rare) / len(rows) == pytest.approx(1)
        clf = MetaLabelNetClassifier(**params, class_prior="trusted")
        assert remembered(clf, X, true, **given).weights_ == [None] * 6


def test_the_estimated_shares_reach_both_losses_of_trusted_rows(split, monkeypatch):
    X, y, _, X_meta, y_meta = split
    weights = []
    virtual_step = CorrectLabels.virtual_step

    def spy(self, *args):
        step = virtual_step(self, *args)
        beside = self.loss_at(FAST["max_epochs"]).keywords["class_weights"]
        weights.extend([(self.class_weights_, step.class_weights, beside)])
        return step

    monkeypatch.setattr(CorrectLabels, "virtual_step", spy)
    MetaLabelNetClassifier(**FAST).fit(X, y, meta_X=X_meta, meta_y=y_meta)
    assert weights
    assert all(own is not None and own is a and own is b for own, a, b in weights)


def test_a_class_that_weighs_nothing_may_fill_a_trusted_batch(split):
    X, y, _, X_meta, y_meta = split
    clf = MetaLabelNetClassifier(**FAST, meta_batch_size=1, class_weight={0: 0.0, 1: 1, 2: 1, 3: 1})
    assert np.isfinite(clf.fit(X, y, meta_X=X_meta, meta_y=y_meta).predict_proba(X)).all()


def test_trusted_rows_beside_the_batch_count_what_their_class_does():
    logits, targets = torch.randn(6, 3), torch.eye(3)[[0, 1, 2, 0, 1, 2]]
    both = {"loss": given_labels_loss, "n_trusted": 2, "trusted_weight": 0.5}
    weights = torch.tensor([9.0, 3.0, 1.0])
    loss = with_trusted_rows(logits, BatchLabels(targets), **both, class_weights=weights)
    trusted = cross_entropy(logits[4:], torch.tensor([1, 2]), reduction="none")
    expected = (
        given_labels_loss(logits[:4], BatchLabels(targets[:4]))
        + 0.5 * (3 * trusted[0] + trusted[1]) / 2
    )
    torch.testing.assert_close(loss, expected)


def test_the_label_network_is_updated_in_every_so_many_steps(split, monkeypatch):
    X, y, _, X_meta, y_meta = split
    steps = []
    virtual_step = CorrectLabels.virtual_step

    def spy(self, *args):
        steps.append(self.steps_)
        return virtual_step(self, *args)

    monkeypatch.setattr(CorrectLabels, "virtual_step", spy)
    per_epoch = -(-len(X) // 128)
    for every in (1, 2, 3):
        steps.clear()
        MetaLabelNetClassifier(**FAST, meta_every=every).fit(X, y, meta_X=X_meta, meta_y=y_meta)
        assert steps == list(range(0, 4 * per_epoch, every))


def test_no_graph_of_the_virtual_step_is_left_when_the_real_one_begins(split, monkeypatch):
    X, y, _, X_meta, y_meta = split
    alive, virtual_step, before_loss = [], CorrectLabels.virtual_step, CorrectLabels.before_loss

    def spy(self, *args):
        step = virtual_step(self, *args)
        alive.append(weakref.ref(step.logits))
        return step

    def look(self, *args):
        assert all(logits() is None for logits in alive)
        before_loss(self, *args)

    monkeypatch.setattr(CorrectLabels, "virtual_step", spy)
    monkeypatch.setattr(CorrectLabels, "before_loss", look)
    MetaLabelNetClassifier(**FAST).fit(X, y, meta_X=X_meta, meta_y=y_meta)
    assert alive


def test_trusted_rows_count_by_the_priors_of_the_classes_that_they_have():
    criterion = SoftTargetLoss(torch.eye(3)[[0, 0, 0, 1, 2, 2]])
    labels = torch.tensor([0, 1, 1, 1])
    weights = class_weights(criterion, torch.tensor([1.0, 1, 1, 1, 1, 0]), labels)
    torch.testing.assert_close(weights, torch.tensor([3.0, 1 / 3, 0.0]))
    criterion.class_prior = torch.tensor([0.2, 0.2, 0.6])
    weights = class_weights(criterion, torch.ones(6), labels)
    torch.testing.assert_close(weights, torch.tensor([2.0, 2 / 3, 0.0]))
    criterion.class_weights = torch.tensor([3.0, 1.0, 1.0])
    weights = class_weights(criterion, torch.ones(6), labels)
    torch.testing.assert_close(weights, torch.tensor([3.0, 1 / 3, 0.0]))
    assert class_weights(criterion, torch.ones(6), torch.tensor([])[:0].long()) is None


def test_labels_of_held_out_rows_say_nothing_of_the_noise(split):
    X, y, _, X_meta, y_meta = split
    clf = MetaLabelNetClassifier(**FAST, train_split=ValidSplit(KFold(5)))  # the first fifth
    held_out = np.arange(len(y)) < len(y) // 5
    other = np.where(held_out, np.random.default_rng(0).permutation(y), y)
    expected = clf.fit(X, y, meta_X=X_meta, meta_y=y_meta).predict_proba(X)
    got = clf.fit(X, other, meta_X=X_meta, meta_y=y_meta).predict_proba(X)
    np.testing.assert_array_equal(got, expected)


def test_mask_equals_the_same_rows_given_apart_and_they_keep_their_label(split):
    X, y, _, X_meta, y_meta = split
    X_all, y_all = np.concatenate([X, X_meta]), np.concatenate([y, y_meta])
    mask = np.arange(len(X_all)) >= len(X)
    masked = MetaLabelNetClassifier(**FAST).fit(X_all, y_all, trusted=mask)
    apart = MetaLabelNetClassifier(**FAST).fit(X_all, y_all, meta_X=X_meta, meta_y=y_meta)
    np.testing.assert_array_equal(masked.predict_proba(X), apart.predict_proba(X))
    np.testing.assert_array_equal(masked.soft_labels_[mask], np.eye(4)[y_meta])
    authors = MetaLabelNetClassifier(**FAST, trusted_weight=0.0)
    assert (authors.fit(X_all, y_all, trusted=mask).soft_labels_[mask] != np.eye(4)[y_meta]).any()


def test_tuples_strings_and_sparse_rows_train_alike(split):
    X, y, _, X_meta, y_meta = split
    names = np.array(list("abcd"))
    expected = MetaLabelNetClassifier(**FAST).fit(X, y, meta_X=X_meta, meta_y=y_meta)
    for given in (
        {"meta_X": (X_meta,), "meta_y": (names[y_meta],)},
        {"meta_X": X_meta.tolist(), "meta_y": names[y_meta].tolist()},
        {"meta_X": sparse.csr_matrix(X_meta), "meta_y": pd.Series(names[y_meta])},
    ):
        if sparse.issparse(given["meta_X"]):
            given["meta_X"] = given["meta_X"].toarray()
        clf = MetaLabelNetClassifier(**FAST).fit(X, names[y], **given)
        np.testing.assert_array_equal(clf.soft_labels_, expected.soft_labels_)
    rows = sparse.csr_matrix(X)
    clf = MetaLabelNetClassifier(**FAST)
    clf.fit(rows, y, meta_X=sparse.csr_matrix(X_meta), meta_y=y_meta, unlabeled_X=rows[:9])
    assert clf.soft_labels_.shape == (len(X), 4)


def test_unlabeled_rows_join_after_the_warmup(split):
    X, y, _, X_meta, y_meta = split
    clf = MetaLabelNetClassifier(**FAST)
    clf.fit(X, y, meta_X=X_meta, meta_y=y_meta, unlabeled_X=X[:100] + 1)
    assert clf.soft_labels_.shape == (len(X), 4)
    generated = clf.net_.criterion_.targets[len(X) : len(X) + 100]
    torch.testing.assert_close(generated.sum(1), torch.ones(100))
    with pytest.raises(ValueError, match="train_split must be None when unlabeled_X"):
        clf.set_params(train_split=ValidSplit(5)).fit(
            X, y, meta_X=X_meta, meta_y=y_meta, unlabeled_X=X
        )


def test_without_trusted_rows_the_small_losses_stand_in(split):
    X, y, _, X_meta, y_meta = split
    counts = np.bincount(y)
    stands_in = np.array([min(50, max(1, int(0.1 * c))) for c in counts])
    told = "No trusted rows were given: pass (?s:.)*shuffle=True"
    generated = {**FAST, "labels": "generated"}
    for given in ({}, {"trusted": np.zeros(len(y), bool)}):
        clf = MetaLabelNetClassifier(**generated)
        with pytest.warns(UserWarning, match=told):
            clf.fit(X, y, **given)
        assert clf.n_meta_ == stands_in.sum()
        is_told = [accuracy is not None for accuracy in clf.history_[:, "meta_accuracy"]]
        assert is_told == [False] * 2 + [True] * 4
    some = {"meta_X": X_meta[y_meta > 1], "meta_y": y_meta[y_meta > 1]}
    with pytest.warns(UserWarning, match="No trusted rows of 0, 1 were given: what y and"):
        clf.fit(X, y, **some)
    assert clf.n_meta_ == stands_in[:2].sum() + (y_meta > 1).sum()
    with pytest.warns(UserWarning, match="No trusted rows of 0, 1 were given: what y and"):
        clf = MetaLabelNetClassifier(**FAST).fit(X, y, **some)
    assert clf.n_meta_ == (y_meta > 1).sum()  # none stands in for refined labels


@pytest.mark.filterwarnings("ignore:No trusted rows")
def test_without_trusted_rows_labels_are_refined_as_by_alr(split):
    X, y, _, _, _ = split
    common = without_draws()
    meta = MetaLabelNetClassifier(**common).fit(X, y)
    alr = ALRClassifier(**common).fit(X, y)
    np.testing.assert_allclose(meta.soft_labels_, alr.soft_labels_, atol=1e-3)
    np.testing.assert_allclose(meta.predict_proba(X), alr.predict_proba(X), atol=1e-3)
    assert meta.n_meta_ == 0
    assert not meta.label_net_.weight.any()


def test_few_trusted_rows_move_less(split):
    X, y, _, X_meta, y_meta = split
    rows = np.concatenate([np.flatnonzero(y_meta == k)[:2] for k in range(3)] + [[]]).astype(int)
    rows[-1] = np.flatnonzero(y_meta == 3)[0]
    seen = []

    class Rates(Callback):
        def on_epoch_end(self, net, **kwargs):
            labels = net.label_callback
            if labels.label_network_ is not None:
                rate = labels.label_optimizer_.param_groups[0]["lr"]
                seen.append((rate, labels.loss_at(6).keywords["trusted_weight"]))

    clf = MetaLabelNetClassifier(**FAST, meta_lr=0.01, trusted_weight=0.5, callbacks=[Rates()])
    clf.fit(X, y, meta_X=X_meta[rows], meta_y=y_meta[rows])
    assert seen[-1] == (pytest.approx(0.01 * 6 / 48), pytest.approx(0.5 * 6 / 16))
    clf.fit(X, y, meta_X=np.repeat(X_meta, 2, 0), meta_y=np.repeat(y_meta, 2))
    assert seen[-1] == (pytest.approx(0.01), pytest.approx(0.5))


def test_what_is_corrected_leaves_classes_without_trusted_rows_alone():
    logits, correction = torch.randn(5, 4), torch.randn(5, 4, requires_grad=True)
    absent = torch.tensor([False, True, False, False])
    labels = corrected(logits, correction, absent).softmax(1)
    before = logits.softmax(1)
    torch.testing.assert_close(labels[:, 1], before[:, 1])
    present = (logits + correction)[:, ~absent].softmax(1)
    torch.testing.assert_close(labels[:, ~absent], present * (1 - before[:, [1]]))
    labels.square().sum().backward()
    assert correction.grad.isfinite().all()
    assert (correction.grad[:, 1] == 0).all()
    assert (correction.grad[:, 0] != 0).all()
    torch.testing.assert_close(corrected(logits, correction, None), logits + correction)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:No trusted rows")
def test_a_class_without_trusted_rows_is_learned(split):
    X, y, true, X_meta, y_meta = split
    some = y_meta != 2
    params = {"max_epochs": 40, "random_state": 0}
    clf = MetaLabelNetClassifier(**params).fit(X, y, meta_X=X_meta[some], meta_y=y_meta[some])
    alr = ALRClassifier(**params).fit(X, y)
    recall, of_alr = ((c.predict(X) == 2)[true == 2].mean() for c in (clf, alr))
    assert of_alr > 0.5
    assert recall > 0.8 * of_alr


def test_a_fitted_estimator_keeps_no_trusted_rows(split):
    X, y, _, X_meta, y_meta = split
    clf = MetaLabelNetClassifier(**FAST).fit(X, y, meta_X=X_meta, meta_y=y_meta)
    assert X_meta[3].tobytes() not in pickle.dumps(clf)
    assert len(pickle.dumps(clf)) < 40 * X.nbytes
    clf.fit(X, y, meta_X=X_meta, meta_y=y_meta)  # it may be fitted again
    assert clf.n_meta_ == 40


@pytest.mark.filterwarnings("ignore:No trusted rows")
def test_the_table_keeps_its_size_and_the_best_epoch_can_be_loaded(split, tmp_path, capsys):
    X, y, _, _, _ = split
    best = Checkpoint(dirname=tmp_path, load_best=True)
    clf = MetaLabelNetClassifier(
        **FAST, train_split=ValidSplit(5), callbacks=[("best", best)], verbose=1
    )
    clf.fit(X, y)
    header, rule, *lines = capsys.readouterr().out.splitlines()
    assert "meta_accuracy" in header
    assert len(rule.split()) == len(header.split())
    assert len(lines) >= 6


class KeepsItsOutput(nn.Linear):
    """As those that keep attention maps for plots."""

    def forward(self, X):
        self.seen = {"all": [super().forward(X)]}
        return self.seen["all"][0]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:X seems to tell nothing")  # in so few epochs
@pytest.mark.parametrize(
    "layer", [lambda: nn.utils.spectral_norm(nn.Linear(10, 8)), lambda: KeepsItsOutput(10, 8)]
)
@pytest.mark.parametrize("evidence", [False, pytest.param(True, marks=pytest.mark.evidence)])
def test_modules_that_keep_what_they_computed_fit_and_can_be_copied(split, layer, evidence):
    X, y, _, X_meta, y_meta = split
    module = nn.Sequential(layer(), nn.ReLU(), nn.Linear(8, 4))
    params = {"max_epochs": 4, "warmup_epochs": 2, "random_state": 0, "evidence": evidence}
    clf = MetaLabelNetClassifier(module, **params)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "module has an operation|Labels were left as given")
        clf.fit(X, y, meta_X=X_meta, meta_y=y_meta)
    assert np.isfinite(copy.deepcopy(clf).predict_proba(X)).all()


def test_restore_best_returns_to_the_best_epoch(split):
    X, y, _, X_meta, y_meta = split
    params = {**FAST, "max_epochs": 12, "lr": 0.05, "restore_best": True}
    clf = MetaLabelNetClassifier(**params).fit(X, y, meta_X=X_meta, meta_y=y_meta)
    scores = [(e["meta_accuracy"], -e["meta_loss"]) for e in clf.history_]
    assert clf.best_epoch_ == 1 + int(np.argmax([a + 1e-9 * b for a, b in scores]))
    assert clf.score(X_meta, y_meta) == pytest.approx(max(scores)[0])


@pytest.mark.filterwarnings("ignore:Training ended with epoch")
def test_training_may_end_by_the_loss_on_trusted_rows(split):
    X, y, _, X_meta, y_meta = split
    stop = EarlyStopping("meta_loss", patience=1, threshold=10.0)  # no epoch is so much better
    clf = MetaLabelNetClassifier(**FAST, callbacks=[("stop", stop)])
    assert clf.fit(X, y, meta_X=X_meta, meta_y=y_meta).n_iter_ == 2


def test_slower_hypergradients_are_named_once(split):
    X, y, _, X_meta, y_meta = split

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Linear(10, 8), nn.Linear(8, 4)

        def forward(self, X):
            return self.last(Cube.apply(self.first(X)))

    params = {"max_epochs": 4, "warmup_epochs": 2, "random_state": 0, "lr": 1e-5}
    clf = MetaLabelNetClassifier(Net, **params)
    with pytest.warns(UserWarning, match="comes by double-backward") as seen:
        clf.fit(X, y, meta_X=X_meta, meta_y=y_meta)
    assert len(seen) == 1
    assert clf.hypergradient_ == "double-backward"
    clf.set_params(hypergradient="double-backward").fit(X, y, meta_X=X_meta, meta_y=y_meta)


class Cube(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx, gradient):
        return 3 * ctx.saved_tensors[0] ** 2 * gradient


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (lambda X, y: {"meta_X": X}, "meta_y must be given with meta_X, got None"),
        (lambda X, y: {"meta_y": y}, "meta_X must be given with meta_y, got None"),
        (lambda X, y: {"meta_X": X, "meta_y": y[:-1]}, "same length, got 40 rows and 39 labels"),
        (lambda X, y: {"meta_X": X[:, 1:], "meta_y": y}, "meta_X must be rows like .* 9 features"),
        (lambda X, y: {"meta_X": X, "meta_y": y + 1}, "must hold labels of y, got 4; y has"),
        (lambda X, y: {"trusted": np.ones(7, bool)}, r"one value a row of X, \(560,\), got bool"),
        (lambda X, y: {"trusted": np.ones(560)}, r"boolean mask .* got float64.*astype\(bool\)"),
        (
            lambda X, y: {"trusted": np.ones(560, bool), "meta_X": X, "meta_y": y},
            "trusted must not be given together with meta_X",
        ),
    ],
)
def test_bad_trusted_rows_are_named(split, given, message):
    X, y, _, X_meta, y_meta = split
    with pytest.raises(ValueError, match=message):
        MetaLabelNetClassifier(**FAST).fit(X, y, **given(X_meta, y_meta))


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"warmup_epochs": 0}, "warmup_epochs == 0, must be >= 1"),
        ({"meta_lr": -1.0}, "meta_lr == -1.0"),
        ({"meta_every": 0}, "meta_every == 0, must be >= 1"),
        ({"momentum": 1.5}, "momentum == 1.5, must be <= 1"),
        ({"entropy_weight": -0.5}, "entropy_weight == -0.5"),
        ({"virtual_lr": "big"}, "virtual_lr must be 'auto' or a number"),
        ({"trusted_weight": -1.0}, "trusted_weight == -1.0"),
        ({"meta_batch_size": 0}, "meta_batch_size == 0"),
        ({"reduction": "sum"}, "reduction must be one of 'batchmean', 'mean', got 'sum'"),
        ({"class_prior": "given"}, "class_prior must be one of 'estimated', 'trusted'"),
        ({"hypergradient": "exact"}, "hypergradient must be one of 'auto', 'jvp'"),
        ({"labels": "given"}, "labels must be one of 'refined', 'generated', got 'given'"),
    ],
)
def test_out_of_range_parameters_are_refused(split, params, message):
    X, y, _, X_meta, y_meta = split
    with pytest.raises(ValueError, match=message):
        MetaLabelNetClassifier(**params).fit(X, y, meta_X=X_meta, meta_y=y_meta)


def test_one_trusted_row_a_class_and_tiny_sets():
    X = np.arange(6.0)[:, None]
    y = np.arange(6) % 2
    clf = MetaLabelNetClassifier(**FAST).fit(X, y, meta_X=X[:2] + 0.1, meta_y=y[:2])
    assert np.isfinite(clf.soft_labels_).all()


def test_batchnorm_dropout_and_images(split):
    X = np.random.default_rng(0).normal(size=(61, 1, 6, 6)).astype(np.float32)
    y = np.arange(61) % 3
    module = nn.Sequential(
        nn.Conv2d(1, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Flatten(),
        nn.Dropout(),
        nn.Linear(64, 3),
    )
    clf = MetaLabelNetClassifier(module, max_epochs=4, warmup_epochs=1, batch_size=12)
    clf.fit(X, y, meta_X=X[:9], meta_y=y[:9])
    assert np.isfinite(clf.soft_labels_).all()


def test_a_meta_set_as_long_as_X_warns_unless_it_is_a_tuple(split):
    _, _, _, X_meta, y_meta = split
    clf = MetaLabelNetClassifier(**FAST)
    with pytest.warns(UserWarning, match="as many rows as X, 40: .* Pass 1-tuples"):
        clf.fit(X_meta, y_meta, meta_X=X_meta, meta_y=y_meta)
    clf.fit(X_meta, y_meta, meta_X=(X_meta,), meta_y=(y_meta,))


class Recorder(MetaLabelNetClassifier):
    """Remembers the trusted rows that `fit` received."""

    def fit(self, X, y, *, meta_X=None, meta_y=None, trusted=None, unlabeled_X=None):
        self.received_ = meta_X
        return super().fit(
            X, y, meta_X=meta_X, meta_y=meta_y, trusted=trusted, unlabeled_X=unlabeled_X
        )


@pytest.mark.slow
@pytest.mark.parametrize("n_jobs", [1, 2])
def test_each_fold_gets_every_trusted_row_scaled_by_its_own_scaler(split, n_jobs, tmp_path):
    X, y, _, X_meta, y_meta = split
    X, y = X[:40], np.arange(40) % 4
    y_meta = np.arange(40) % 4
    columns = [f"f{k}" for k in range(10)]
    X, X_meta = pd.DataFrame(X, columns=columns), pd.DataFrame(X_meta, columns=columns)
    with config_context(enable_metadata_routing=True):
        pipeline = make_noisy_pipeline(StandardScaler(), Recorder(**FAST), memory=str(tmp_path))
        result = cross_validate(
            pipeline,
            X,
            y,
            cv=4,
            params={"meta_X": (X_meta,), "meta_y": (y_meta,)},
            return_estimator=True,
            return_indices=True,
            n_jobs=n_jobs,
        )
        for fitted, train in zip(result["estimator"], result["indices"]["train"], strict=True):
            (received,) = fitted[-1].received_
            expected = StandardScaler().fit(X.iloc[train]).transform(X_meta)
            np.testing.assert_allclose(received, expected)
        search = GridSearchCV(
            pipeline, {"recorder__meta_lr": [1e-3, 1e-2]}, cv=2, n_jobs=n_jobs, error_score="raise"
        ).fit(X, y, meta_X=(X_meta,), meta_y=(y_meta,))
        (received,) = search.best_estimator_[-1].received_
        np.testing.assert_allclose(received, StandardScaler().fit(X).transform(X_meta))


class Chosen(Callback):
    """Keeps which rows were trusted, and how many of the trusted set."""

    def on_epoch_end(self, net, dataset_train=None, dataset_valid=None, **kwargs):
        labels = net.label_callback
        self.held_out_ = np.asarray(dataset_valid.indices)
        self.chosen_, self.indices_ = labels.chosen_, labels.trusted.indices
        first, n_trusted = labels.first_, len(self.indices_)
        self.labels_ = net.criterion_.targets[first : first + n_trusted].argmax(1).numpy()
        self.n_trusted_ = len(labels.trusted_)


@pytest.mark.filterwarnings("ignore:No trusted rows")
def test_no_held_out_row_is_trusted_or_stands_in(split):
    X, y, true, _, _ = split
    mask = (np.arange(len(X)) < 200) & (true > 0)
    clf = MetaLabelNetClassifier(
        **FAST,
        labels="generated",
        train_split=ValidSplit(KFold(5)),
        callbacks=[("chosen", Chosen())],
    ).fit(X, np.where(mask, true, y), trusted=mask)
    found = dict(clf.net_.callbacks_)["chosen"]
    assert len(found.held_out_) == len(X) // 5
    assert not np.isin(found.chosen_, found.held_out_).any()
    expected = np.setdiff1d(np.flatnonzero(mask), found.held_out_)
    np.testing.assert_array_equal(found.indices_, expected)
    np.testing.assert_array_equal(found.labels_, true[expected])
    assert len(found.chosen_) > 0
    assert clf.n_meta_ == found.n_trusted_ == len(expected) + len(found.chosen_)


def test_a_mask_is_cut_with_the_folds(split):
    X, y, _, _, _ = split
    mask = np.arange(len(X)) % 3 == 0
    with config_context(enable_metadata_routing=True):
        pipeline = make_noisy_pipeline(StandardScaler(), MetaLabelNetClassifier(**FAST))
        result = cross_validate(
            pipeline, X, y, cv=3, params={"trusted": mask}, return_estimator=True,
            return_indices=True,
        )  # fmt: skip
    for fitted, train in zip(result["estimator"], result["indices"]["train"], strict=True):
        assert fitted[-1].n_meta_ == mask[train].sum()


@pytest.mark.slow
def test_a_search_chooses_by_trusted_rows_alone(split):
    X, y, true, _, _ = split
    mask = np.arange(len(X)) < 60  # on top
    given = np.where(mask, true, y)
    folds = StratifiedKFold(3, shuffle=True, random_state=0)
    scores = {}
    with config_context(enable_metadata_routing=True):
        for is_requested in (True, False):
            clf = MetaLabelNetClassifier(**FAST).set_score_request(trusted=is_requested)
            search = GridSearchCV(
                make_noisy_pipeline(StandardScaler(), clf), {}, cv=folds, error_score="raise"
            ).fit(X, given, trusted=mask)
            scores[is_requested] = [search.cv_results_[f"split{k}_test_score"][0] for k in range(3)]
        for k, (train, test) in enumerate(folds.split(X, given)):
            clf = make_noisy_pipeline(StandardScaler(), MetaLabelNetClassifier(**FAST))
            clf.fit(X[train], given[train], trusted=mask[train])
            hits = clf.predict(X[test]) == given[test]
            assert scores[True][k] == pytest.approx(hits[mask[test]].mean())
            assert scores[False][k] == pytest.approx(hits.mean())
    clf = MetaLabelNetClassifier(**FAST).fit(X, given, trusted=mask)
    with pytest.raises(ValueError, match=r"to score, got none; .*StratifiedKFold\(shuffle=True\)"):
        clf.score(X, given, trusted=~mask & mask)
    with pytest.raises(ValueError, match="boolean mask with one value a row of X"):
        clf.score(X, given, trusted=mask[:-1])
    weights = np.arange(len(X)) % 2
    hits = clf.predict(X) == given
    assert clf.score(X, given, weights, trusted=mask) == pytest.approx(hits[:60][1::2].mean())


@pytest.mark.filterwarnings("ignore:No trusted rows")
def test_a_fold_without_trusted_rows_is_scored_all_the_same(split):
    X, y, _, _, _ = split
    with config_context(enable_metadata_routing=True):
        clf = MetaLabelNetClassifier(**FAST).set_fit_request(trusted=True)
        result = cross_validate(clf, X, y, cv=KFold(4), params={"trusted": np.arange(560) < 40})
    assert np.isfinite(result["test_score"]).all()


def test_requests_of_names_that_fit_does_not_have_are_refused():
    with config_context(enable_metadata_routing=True):
        clf = MetaLabelNetClassifier().set_fit_request(meta_X=True, meta_y=True, trusted=True)
        assert clf.get_metadata_routing().fit.requests["meta_X"] is True
        with pytest.raises(TypeError, match="meta_Z"):
            clf.set_fit_request(meta_Z=True)


class Nothing(TransformerMixin, BaseEstimator):
    def fit(self, X, y=None):
        return self


@pytest.mark.parametrize("steps", [(), (StandardScaler(), ALRClassifier()), (Nothing(),)])
def test_pipelines_that_end_in_something_else_are_refused(steps):
    with pytest.raises(TypeError, match="must end in a classifier whose fit takes meta_X"):
        make_noisy_pipeline(*steps)


def test_a_trusted_row_of_weight_0_teaches_nothing(blobs):
    X, y, _ = blobs
    trusted, weights = np.arange(600) < 60, np.where(np.arange(600) < 30, 0.0, 1.0)
    other = np.where(weights == 0, (y + 1) % 4, y)
    found = [
        MetaLabelNetClassifier(**FAST).fit(X, labels, weights, trusted=trusted)
        for labels in (y, other)
    ]
    np.testing.assert_array_equal(*[clf.predict_proba(X) for clf in found])
    assert found[0].n_meta_ == 30


def test_a_mask_in_the_place_of_weights_is_told():
    with pytest.raises(TypeError, match="of a mask of trusted rows pass trusted=mask"):
        MetaLabelNetClassifier().fit(np.eye(4), [0, 1, 0, 1], np.array([True, False, True, True]))
