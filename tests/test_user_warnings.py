"""Every warning of the package points at the line of the user's that led to it."""

import ast
import signal
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas
import pytest
import skorch
import torch
from sklearn.base import clone
from sklearn.datasets import make_blobs
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.model_selection import GridSearchCV, HalvingGridSearchCV, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

import sknoisy
from sknoisy import (
    ALRClassifier,
    MetaLabelNetClassifier,
    SyntheticMixClassifier,
    user_warnings,
)
from sknoisy.base import NoisyLabelClassifier
from sknoisy.crowd import CrowdLabels
from sknoisy.issues import corrected_labels, find_label_issues
from sknoisy.user_warnings import warn

pytestmark = [pytest.mark.evidence, pytest.mark.filterwarnings("default")]
X, Y = make_blobs(80, 3, centers=2, random_state=0)
META = {"meta_X": X[:20], "meta_y": Y[:20]}


class CtrlC(skorch.callbacks.Callback):
    def on_epoch_end(self, net, **kwargs):
        signal.raise_signal(signal.SIGINT)


class NoForwardMode(torch.autograd.Function):
    @staticmethod
    def forward(ctx, X):
        return 2 * X

    @staticmethod
    def backward(ctx, gradient):
        return 2 * gradient


class Doubles(nn.Module):
    def __init__(self, n_features, n_classes):
        super().__init__()
        self.first, self.last = nn.Linear(n_features, 4), nn.Linear(4, n_classes)

    def forward(self, X):
        return self.last(NoForwardMode.apply(self.first(X)))


def damaged_checkpoint(folder):
    (folder / "epoch-000001.checkpoint").write_bytes(b"no checkpoint")
    ALRClassifier(max_epochs=2, warmup_epochs=1, checkpoint_dir=folder).fit(X, Y)


def left_out(folder):
    clf = ALRClassifier(max_epochs=2, warmup_epochs=1, callbacks=[CtrlC()])
    clf.set_params(callbacks=[skorch.callbacks.Callback()]).fit(X, Y)
    clf.save(folder / "clf")


def unsaved_index(folder):
    index = pandas.period_range("2026-01", periods=80, freq="M")
    alr().fit(pandas.DataFrame(X, index), Y).save(folder / "clf")


def in_a_thread(folder):
    clf = ALRClassifier(max_epochs=2, warmup_epochs=1, iterator_train__num_workers=1)
    with ThreadPoolExecutor(1) as pool:
        pool.submit(lambda: clf.fit(X, Y)).result()


def harmed(folder):
    given = np.where(np.random.default_rng(0).random(80) < 0.3, 1 - Y, Y)
    params = {"momentum": 0.0, "entropy_weight": 5.0, "lr": 0.01, "max_epochs": 20}
    ALRClassifier(random_state=0, **params).fit(X, given)


def mix(**params):
    return SyntheticMixClassifier(random_state=0, **params)


def alr(**params):
    return ALRClassifier(random_state=0, **{"max_epochs": 2, "warmup_epochs": 1, **params})


def meta(module=None, **params):
    return MetaLabelNetClassifier(module, **{"max_epochs": 3, "warmup_epochs": 1, **params})


def vanished(folder):
    params = {"momentum": 0.0, "entropy_weight": 5.0, "evidence": False}
    alr(max_epochs=9, **params).fit(0 * X, np.arange(80) >= 78)


# What leads to each warning, by words of it; every call of `warn` in the package is one of these.
CAUSES = {
    "No trusted rows were given": lambda folder: meta().fit(X, Y),
    "No trusted rows of": lambda folder: meta().fit(X, Y, trusted=Y[0] == Y),
    "max_epochs must exceed warmup_epochs for any label to be corrected": lambda folder: meta(
        warmup_epochs=3
    ).fit(X, Y, **META),
    "meta_X has as many rows as X": lambda folder: meta().fit(X, Y, meta_X=X, meta_y=Y),
    "module should have a hidden layer": lambda folder: meta(nn.Linear(3, 2)).fit(X, Y, **META),
    "without a forward-mode derivative": lambda folder: meta(Doubles).fit(X, Y, **META),
    "for any label to be refined": lambda folder: alr(warmup_epochs=2).fit(X, Y),
    "must reach mix_start": lambda folder: mix(max_epochs=3, mix_start=5).fit(X, Y),
    "at most 0.5, or no label can change": lambda folder: mix(max_epochs=5).fit(X, Y),
    "Labels were left as given": harmed,
    "X seems to tell nothing of y": lambda folder: alr(max_epochs=4).fit(
        X, np.random.default_rng(0).permutation(Y)
    ),
    "X are numbered in different orders": lambda folder: alr().fit(
        pandas.DataFrame(X), pandas.Series(Y, range(79, -1, -1))
    ),
    "The columns of pred_probs are taken to be": lambda folder: find_label_issues(
        y=Y, pred_probs=0.8 * np.eye(2)[1 - Y] + 0.1
    ),
    "Corrected labels keep no row of": lambda folder: corrected_labels(
        y=[0] * 6 + [1], pred_probs=[[0.9, 0.1]] * 7
    ),
    "keep no row of True in y": vanished,
    "before labels can have changed": lambda folder: alr(
        max_epochs=9,
        warmup_epochs=4,
        evidence=False,
        callbacks=[skorch.callbacks.EarlyStopping("train_loss", threshold=0.99, patience=2)],
    ).fit(X, Y),
    "Training interrupted": lambda folder: alr(callbacks=[CtrlC()]).fit(X, Y),
    "Training diverged": lambda folder: alr(optimizer=torch.optim.SGD, lr=1e30).fit(X, Y),
    "end in a softmax": lambda folder: alr(
        module=nn.Sequential(nn.Linear(3, 2), nn.Softmax(1))
    ).fit(X, Y),
    "starts no processes": in_a_thread,
    "checkpoint_dir holds a file": damaged_checkpoint,
    "save leaves out callbacks": left_out,
    "save leaves out the index": unsaved_index,
    "vote for one class alone": lambda folder: CrowdLabels(
        [["a", None], [None, "b"], ["a", "b"]]
    ).label_proba("dawid_skene"),
}


@pytest.fixture(params=[True, False], ids=["wrapped", "bare"])
def wrapped(request, monkeypatch):
    """With scikit-learn 1.9's wrapper of `fit`, and without, as in earlier versions."""
    bare = getattr(NoisyLabelClassifier._fit, "__wrapped__", None)
    if not request.param and bare is not None:
        monkeypatch.setattr(NoisyLabelClassifier, "_fit", bare)


def caught(cause, *args):
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        cause(*args)
    return [w for w in found if issubclass(w.category, UserWarning)]


@pytest.mark.slow
@pytest.mark.usefixtures("wrapped")
@pytest.mark.parametrize("words", CAUSES)
def test_a_warning_points_at_the_users_line(words, tmp_path):
    found = [w for w in caught(CAUSES[words], tmp_path) if words in str(w.message)]
    assert [Path(w.filename) for w in found] == [Path(__file__)]


def calls(tree, name):
    """Return the calls of a function or method of this name."""
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return [n for n in nodes if getattr(n.func, "id", getattr(n.func, "attr", None)) == name]


def test_every_warning_of_the_package_is_among_them():
    files = set(Path(sknoisy.__file__).parent.rglob("*.py")) - {Path(user_warnings.__file__)}
    found = [call for path in files for call in calls(ast.parse(path.read_text()), "warn")]
    assert len(found) == len(CAUSES)
    assert not [call for call in found if ast.unparse(call.func) != "warn"]  # not warnings.warn


def test_warnings_point_through_pipelines_searches_and_subclasses():
    class Own(ALRClassifier):
        pass

    idle = {"max_epochs": 2, "warmup_epochs": 2}
    pipeline = make_pipeline(StandardScaler(), Own(**idle))
    search = GridSearchCV(clone(pipeline), {"own__lr": [0.001]}, cv=2)
    for clf in (pipeline, search):
        found = caught(clf.fit, X, Y)
        assert len(found) == 1
        assert {Path(w.filename) for w in found} == {Path(__file__)}


def test_without_a_line_of_the_users_the_warning_comes_all_the_same(monkeypatch):
    monkeypatch.setattr("sknoisy.user_warnings.BETWEEN", [""])
    monkeypatch.setattr("sknoisy.user_warnings._package", lambda frame: "")
    with pytest.warns(UserWarning, match="nobody's"):
        warn("nobody's")


@pytest.mark.slow
@pytest.mark.parametrize("run", ["search", "halving", "cross_validate"])
def test_a_search_warns_once_and_the_next_one_again(run):
    clf = SyntheticMixClassifier(evidence=False, module__hidden=4)

    def fit():
        if run == "search":
            GridSearchCV(clf, {"max_epochs": [3, 5, 7]}, cv=2).fit(X, Y)
        elif run == "halving":
            HalvingGridSearchCV(
                clf, {"lr": [1e-3, 1e-2]}, resource="max_epochs", max_resources=6, cv=2
            ).fit(X, Y)
        else:
            cross_validate(clone(clf).set_params(max_epochs=4), X, Y, cv=3)

    for _ in range(2):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            fit()
        updates = [w for w in caught if "target_momentum ** updates" in str(w.message)]
        assert len(updates) == 1
        assert updates[0].filename == __file__


def test_the_networks_of_a_fit_warn_once():
    clf = meta(Doubles, max_epochs=5)
    for _ in range(2):
        messages = [str(w.message) for w in caught(lambda: clf.fit(X, Y, **META))]
        assert clf.evidence_ is not None
        assert sum("without a forward-mode derivative" in m for m in messages) == 1
        assert len(messages) == len(set(messages))


def test_a_loop_of_fits_warns_each_time():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(2):
            SyntheticMixClassifier(evidence=False, max_epochs=4, module__hidden=4).fit(X, Y)
    assert sum("target_momentum ** updates" in str(w.message) for w in caught) == 2
