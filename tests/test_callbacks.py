import copy
import pickle
import threading
from collections import Counter

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.metrics import accuracy_score, f1_score, log_loss, roc_auc_score
from skorch import NeuralNetClassifier
from skorch.callbacks import (
    BatchScoring,
    Callback,
    Checkpoint,
    EarlyStopping,
    EpochScoring,
    LRScheduler,
    TensorBoard,
)
from skorch.dataset import ValidSplit
from skorch.helper import predefined_split
from torch import nn
from torch.utils.data import TensorDataset

from sknoisy import ALRClassifier, MetaLabelNetClassifier, SyntheticMixClassifier
from sknoisy.noise import symmetric_noise
from sknoisy.training import user_callbacks

FAST = {"max_epochs": 3, "module__hidden": 16, "random_state": 0}
SPLIT = ValidSplit(4, stratified=True)
pytestmark = [
    pytest.mark.filterwarnings("ignore:No trusted rows:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*max_epochs must:UserWarning"),
    pytest.mark.filterwarnings("ignore:target_momentum:UserWarning"),
    pytest.mark.filterwarnings("ignore:max_epochs:UserWarning"),
]


def held_out(clf, X, y):
    _, part = clf.net_.get_split_datasets(X, np.arange(len(X)))
    return X[part.indices], np.unique(y, return_inverse=True)[1][part.indices]


@pytest.mark.slow
@pytest.mark.parametrize("use_caching", [True, False])
def test_scores_of_held_out_rows_are_those_of_the_estimator(method, blobs, use_caching):
    X, y, _ = blobs
    y = np.array(["d", "a", "c", "b"])[y]

    def hits(net, X, y):
        return (net.predict_proba(X).argmax(axis=1) == np.asarray(y)).mean()

    names = "accuracy", "f1_macro", "roc_auc_ovr", "neg_log_loss"
    scores = [
        EpochScoring(name, name=name, lower_is_better=False, use_caching=use_caching)
        for name in names
    ]
    scores += [
        EpochScoring(hits, name="hits", lower_is_better=False, use_caching=use_caching),
        BatchScoring("accuracy", name="by_batch", lower_is_better=False),
    ]
    clf = method(**FAST, train_split=SPLIT, callbacks=scores, calibrate=False).fit(X, y)
    rows, labels = held_out(clf, X, y)
    proba = clf.predict_proba(rows)
    last = clf.history_[-1]
    expected = {
        "accuracy": accuracy_score(labels, proba.argmax(axis=1)),
        "f1_macro": f1_score(labels, proba.argmax(axis=1), average="macro"),
        "roc_auc_ovr": roc_auc_score(labels, proba, multi_class="ovr"),
        "neg_log_loss": -log_loss(labels, proba),
    }
    for name in ("hits", "by_batch", "valid_acc"):
        expected[name] = expected["accuracy"]
    for name, value in expected.items():
        assert last[name] == pytest.approx(value, abs=1e-5), name


@pytest.mark.parametrize("use_caching", [True, False])
def test_scores_of_a_dataset(blobs, use_caching):
    X, y, _ = blobs
    score = EpochScoring("accuracy", name="score", use_caching=use_caching)
    clf = ALRClassifier(**FAST, train_split=SPLIT, callbacks=[score])
    clf.fit(Pairs(X, y.tolist()))
    assert clf.history_[-1, "score"] == clf.history_[-1, "valid_acc"]


def test_scores_of_training_rows_read_given_labels(method, blobs):
    X, y, _ = blobs
    scores = [EpochScoring("accuracy", name="whole", on_train=True, use_caching=False)]
    for kind, name in ((EpochScoring, "epoch"), (BatchScoring, "batch")):
        scores.append(kind("accuracy", name=name, on_train=True))
    clf = method(**FAST, callbacks=scores).fit(X, y)
    assert clf.history_[-1, "whole"] == pytest.approx(clf.score(X, y), abs=1e-9)
    for name in ("epoch", "batch"):  # of batches in training: dropout, mixtures
        assert clf.history_[-1, name] == pytest.approx(clf.history_[-1, "whole"], abs=0.25)


@pytest.mark.slow
def test_rows_without_a_given_label_are_in_no_score(blobs):
    X, y, _ = blobs
    seen = []

    class See(Callback):
        def on_train_begin(self, net, X=None, y=None, **kwargs):
            seen.append(("begin", np.asarray(y)))

        def on_batch_end(self, net, batch, y_pred=None, training=False, **kwargs):
            assert len(batch[0]) == len(batch[1]) == len(y_pred)
            seen.append(("batch", batch[1].numpy()))

        def on_grad_computed(self, net, named_parameters, batch=None, **kwargs):
            seen.append(("gradients", batch[1].numpy()))

        def on_epoch_end(self, net, dataset_train=None, **kwargs):
            seen.append(("epoch", np.array([label for _, label in dataset_train])))

    clf = MetaLabelNetClassifier(**FAST, callbacks=[See()])
    clf.fit(X[:500], y[:500], meta_X=X[:40], meta_y=y[:40], unlabeled_X=X[500:])
    assert Counter(name for name, _ in seen)["epoch"] == 3
    for name, labels in seen:
        assert labels.min() >= (-1 if name in ("begin", "gradients") else 0)
        assert labels.max() <= 3
    batches = [labels for name, labels in seen if name == "batch"]
    assert sum(map(len, batches)) == 3 * 500
    np.testing.assert_array_equal(np.bincount(np.concatenate(batches)), 3 * np.bincount(y[:500]))
    np.testing.assert_array_equal(dict(seen)["epoch"], y[:500])


@pytest.mark.slow
def test_a_batch_can_be_changed_but_not_its_labels(method, blobs):
    X, y, _ = blobs

    class Replace(Callback):
        def __init__(self, place):
            self.place = place

        def on_batch_begin(self, net, batch, training=False, **kwargs):
            if training:
                batch[self.place] = torch.zeros_like(batch[self.place])

    longer = {**FAST, "max_epochs": 12}
    blind = method(**longer, callbacks=[Replace(0)]).fit(X, y)
    assert blind.score(X, y) < method(**longer).fit(X, y).score(X, y) - 0.1  # it saw zeros alone
    with pytest.raises(ValueError, match="must leave the labels of a batch as they are.*Replace"):
        method(**FAST, callbacks=[Replace(1)]).fit(X, y)


class Losses(Callback):
    def __init__(self):
        self.seen_ = []

    def on_epoch_end(self, net, **kwargs):
        self.seen_.append(net.history[-1, "train_loss"])


class Writer:
    """As torch's SummaryWriter, a run or an open file: holds a lock."""

    def __init__(self):
        self.lock, self.rows = threading.Lock(), []

    def add_scalar(self, tag, scalar_value, global_step=None, **kwargs):
        self.rows.append(tag)

    def close(self):
        pass


def test_callbacks_are_used_as_they_are(method, blobs):
    X, y, _ = blobs
    mine, writer = Losses(), Writer()
    clf = method(**FAST, callbacks=[mine, ("board", TensorBoard(writer))]).fit(X, y)
    assert mine.seen_ == clf.history_[:, "train_loss"]
    assert dict(clf.net_.callbacks_)["Losses"] is mine
    assert Counter(writer.rows)["Loss/train_loss"] == 3
    copied = clone(clf.set_params(callbacks=[mine])).fit(X, y)
    assert len(mine.seen_) == 3
    assert len(dict(copied.net_.callbacks_)["Losses"].seen_) == 3


def test_a_callback_in_use_is_copied(blobs):
    X, y, _ = blobs

    class FitAnother(Losses):
        depth = 0

        def on_epoch_end(self, net, **kwargs):
            super().on_epoch_end(net, **kwargs)
            if len(net.history) == 1 and not FitAnother.depth:
                FitAnother.depth += 1
                ALRClassifier(**FAST, callbacks=[("again", self)]).fit(X, y)

    mine = FitAnother()
    ALRClassifier(**FAST, callbacks=[mine]).fit(X, y)
    assert len(mine.seen_) == 3
    assert not user_callbacks._in_use


def test_a_fit_that_raises_gives_callbacks_back(blobs):
    X, y, _ = blobs

    class Fail(Callback):
        def on_epoch_end(self, net, **kwargs):
            raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        ALRClassifier(**FAST, callbacks=[Fail()]).fit(X, y)
    assert not user_callbacks._in_use


def test_the_history_and_the_table_hold_the_held_out_accuracy(method, blobs, capsys):
    X, y, _ = blobs
    clf = method(**FAST, train_split=SPLIT, verbose=1).fit(X, y)
    rows, labels = held_out(clf, X, y)
    assert clf.history_[-1, "valid_acc"] == pytest.approx(clf.score(rows, labels))
    header = capsys.readouterr().out.splitlines()[0].split()
    assert {"train_loss", "valid_loss", "valid_acc", "dur"} <= set(header)


BAD_CALLBACKS = {
    "no split": (
        {"callbacks": [EarlyStopping()]},
        "EarlyStopping monitors 'valid_loss'.*pass",
    ),
    "class": ({"callbacks": [EarlyStopping]}, "EarlyStopping monitors 'valid_loss'"),
    "best": ({"callbacks": [("cp", Checkpoint())]}, "cp monitors 'valid_loss_best'"),
    "by parameter": (
        {
            "callbacks": [("s", EarlyStopping("train_loss"))],
            "callbacks__s__monitor": "valid_acc",
        },
        "s monitors 'valid_acc'",
    ),
    "unknown": (
        {"callbacks": [EarlyStopping("acc")], "train_split": SPLIT},
        "got EarlyStopping with 'acc'; it holds .*train_loss, valid_loss, valid_acc",
    ),
    "misspelt": (
        {
            "callbacks": [EarlyStopping("train_loss")],
            "callbacks__EarlyStoping__patience": 1,
        },
        "did you mean callbacks__EarlyStopping",
    ),
    "ours": ({"callbacks__sknoisy_labels__momentum": 0.1}, "must name one of callbacks"),
    "batches": ({"iterator_train__batch_sampler": [[0, 1]]}, "batch_sampler must not be given"),
}


@pytest.mark.parametrize(("params", "message"), BAD_CALLBACKS.values(), ids=BAD_CALLBACKS)
def test_what_no_callback_can_do_is_named(method, blobs, params, message):
    X, y, _ = blobs
    with pytest.raises(ValueError, match=message):
        method(**{**FAST, **params}).fit(X, y)


def test_callbacks_of_one_kind_are_numbered_as_in_skorch():
    pair = [EarlyStopping("train_loss"), EarlyStopping("train_loss"), ("mine", Losses()), Losses]
    net = NeuralNetClassifier(nn.Linear(2, 2), callbacks=pair).initialize()
    names = [name for name, _ in net.callbacks_ if name not in user_callbacks.DEFAULTS]
    assert user_callbacks.names_of(pair) == names


@pytest.mark.parametrize("name", ["print_log", "valid_acc", "valid_loss", "EarlyStopping_2"])
def test_parameters_reach_callbacks_that_are_there(blobs, name):
    X, y, _ = blobs
    pair = [EarlyStopping("train_loss"), EarlyStopping("train_loss")]
    ALRClassifier(**FAST, callbacks=pair, **{f"callbacks__{name}": None}).fit(X, y)


@pytest.fixture(scope="module")
def digits():
    from sklearn.datasets import load_digits

    X, true = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(X))[:600]
    return X[order], symmetric_noise(true[order], 0.3, random_state=0), true[order]


@pytest.mark.slow
@pytest.mark.parametrize("restore", [True, False])
@pytest.mark.parametrize("cls", [ALRClassifier, MetaLabelNetClassifier])
def test_early_stopping_leaves_the_warmup(digits, cls, restore, tmp_path):
    X, given, true = digits
    stop = EarlyStopping(patience=5, load_best=restore)
    if restore:
        stop = Checkpoint(dirname=tmp_path, load_best=True)
    params = {"max_epochs": 100, "random_state": 0}
    clf = cls(**params, train_split=ValidSplit(5), callbacks=[stop]).fit(X, given)
    assert clf.n_iter_ > 2 * clf.warmup_epochs_
    assert (clf.soft_labels_.argmax(axis=1) == true).mean() > 0.9


@pytest.mark.parametrize("patience", [1, 2])
def test_a_fit_that_ends_before_labels_can_change_says_so(method, blobs, patience):
    X, y, _ = blobs
    stop = EarlyStopping("train_loss", patience=patience, threshold=0.9)
    clf = method(max_epochs=60, module__hidden=16, random_state=0, callbacks=[stop])
    if "momentum" in clf.get_params():  # one that begins at once has nothing to say
        clf.set_params(warmup_epochs=5)
    if method.__name__ == "ToyClassifier":
        clf.set_params(warmup_epochs=5)
    with pytest.warns(UserWarning, match=f"ended with epoch {patience + 1} of 60, by a callback"):
        clf.fit(X, y)


@pytest.mark.parametrize("cls", [ALRClassifier, SyntheticMixClassifier])
def test_labels_cannot_have_changed_while_given_ones_weigh_more(cls):
    params = {"momentum": 0.8} if cls is ALRClassifier else {}
    labels = cls._new_label_callback(warmup_epochs=3, **params)
    if cls is ALRClassifier:
        assert [labels.can_flip(epoch) for epoch in (3, 6, 7)] == [False, False, True]
    else:  # 0.9 ** 7 is below a half; updates at epochs 10, 15, ... 40
        assert [labels.can_flip(epoch) for epoch in (12, 39, 40)] == [False, False, True]


class Pairs(torch.utils.data.Dataset):
    def __init__(self, X, labels):
        self.X, self.labels = X, labels

    def __len__(self):
        return len(self.X)

    def __getitem__(self, k):
        return torch.from_numpy(self.X[k]), self.labels[k]


@pytest.mark.slow
def test_clean_rows_can_be_held_out(method, blobs):
    X, y, true = blobs
    names = np.array(["d", "a", "c", "b"])
    clean = Pairs(X[400:], names[true[400:]].tolist())
    stop = EarlyStopping(patience=50, load_best=True)
    clf = method(
        **{**FAST, "max_epochs": 8}, train_split=predefined_split(clean), callbacks=[stop]
    ).fit(X[:400], names[y[:400]])
    assert clf.soft_labels_.shape == (400, 4)
    best = clf.n_iter_ - 1 if stop.best_epoch_ is None else stop.best_epoch_ - 1
    assert clf.history_[best, "valid_acc"] == pytest.approx(clf.score(X[400:], names[true[400:]]))
    pickle.loads(pickle.dumps(clf)).predict(X)
    copy.deepcopy(clf).predict(X)


def test_clean_rows_do_not_touch_the_fit(method, blobs):
    X, y, true = blobs
    clean = TensorDataset(torch.from_numpy(X[400:]), torch.from_numpy(true[400:]))
    alone = method(**FAST, warmup_epochs=1).fit(X[:400], y[:400])
    watched = method(**FAST, warmup_epochs=1, train_split=predefined_split(clean))
    watched.fit(X[:400], y[:400])
    np.testing.assert_array_equal(alone.soft_labels_, watched.soft_labels_)


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (TensorDataset(torch.zeros(4, 10), torch.tensor([0, 1, 2, 7])), "labels of y.*got 7"),
        (TensorDataset(torch.zeros(4, 9), torch.zeros(4)), r"rows of shape \(10,\), as in fit"),
        (TensorDataset(torch.zeros(4, 10)), "without labels"),
    ],
)
def test_clean_rows_unlike_those_of_fit_are_refused(blobs, dataset, message):
    X, y, _ = blobs
    with pytest.raises(ValueError, match=message):
        ALRClassifier(**FAST, train_split=predefined_split(dataset)).fit(X, y)


def test_schedules_run_as_many_steps_as_there_are_epochs(blobs):
    X, y, _ = blobs
    schedule = LRScheduler(torch.optim.lr_scheduler.CosineAnnealingLR, T_max=4)
    clf = ALRClassifier(**{**FAST, "max_epochs": 4}, callbacks=[schedule]).fit(X, y)
    rates = clf.history_[:, "event_lr"]
    assert rates == sorted(rates, reverse=True)


@pytest.mark.slow
def test_pruning_sees_the_study_and_ends_the_fit(blobs):
    optuna = pytest.importorskip("optuna")
    integration = pytest.importorskip("optuna_integration")
    X, y, _ = blobs
    optuna.logging.set_verbosity(optuna.logging.ERROR)

    def study_of(make):
        def objective(trial):
            lr = [1e-2, 1e-2, 1e-2, 1e-8, 1e-8][trial.number]
            callback = integration.SkorchPruningCallback(trial, "valid_loss")
            net = make(lr=lr, max_epochs=8, train_split=SPLIT, callbacks=[callback]).fit(X, y)
            history = net.history if isinstance(net, NeuralNetClassifier) else net.history_
            return history[-1, "valid_loss"]

        study = optuna.create_study(pruner=optuna.pruners.MedianPruner(n_startup_trials=2))
        study.optimize(objective, 5)
        return [trial.state.name for trial in study.trials]

    def plain(**params):
        torch.manual_seed(0)
        network = nn.Sequential(nn.Linear(10, 16), nn.ReLU(), nn.Linear(16, 4))
        return NeuralNetClassifier(
            network, criterion=nn.CrossEntropyLoss, optimizer=torch.optim.Adam, verbose=0, **params
        )

    theirs = study_of(plain)
    assert theirs.count("PRUNED") == 2
    assert study_of(lambda **params: ALRClassifier(random_state=0, **params)) == theirs


def test_a_tensorboard_folder_holds_the_curves(method, blobs, tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from torch.utils.tensorboard import SummaryWriter

    X, y, _ = blobs
    board = TensorBoard(SummaryWriter(tmp_path))
    clf = method(**FAST, train_split=SPLIT, callbacks=[board]).fit(X, y)
    read = EventAccumulator(str(tmp_path)).Reload()
    for name in ("train_loss", "valid_loss", "valid_acc"):
        curve = [event.value for event in read.Scalars(f"Loss/{name}")]
        np.testing.assert_allclose(curve, clf.history_[:, name], rtol=1e-5)


def test_hooks_that_are_set_on_an_object_or_on_its_class_later_are_called(method, blobs):
    X, y, _ = blobs

    class Later(Callback):
        pass

    heard, of_object = [], Later()
    method(**FAST, callbacks=[of_object]).fit(X, y)
    of_object.on_batch_end = lambda net, **kwargs: heard.append("object")
    Later.on_epoch_end = lambda self, net, **kwargs: heard.append("class")
    method(**FAST, callbacks=[of_object]).fit(X, y)
    assert {*heard} == {"object", "class"}
