"""Ctrl-C keeps the fit so far, and says so; inside a search it ends the search."""

import signal
from functools import partial

import numpy as np
import pytest
import skorch
from conftest import METHODS
from sklearn.datasets import make_blobs
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import cross_val_score

from sknoisy import ALRClassifier
from sknoisy.display import TrainingDisplay

pytestmark = pytest.mark.filterwarnings("ignore:No trusted rows", "ignore:target_momentum")
X, y = make_blobs(80, centers=3, random_state=0)


class CtrlC(skorch.callbacks.Callback):
    """Interrupts after some epochs, or in the midst of the next one."""

    def __init__(self, epochs, batch=False):
        self.epochs = epochs
        self.batch = batch

    def on_batch_end(self, net, training=False, **kwargs):
        if self.batch and len(net.history) > self.epochs and training:
            signal.raise_signal(signal.SIGINT)

    def on_epoch_end(self, net, **kwargs):
        if len(net.history) == self.epochs and not self.batch:
            signal.raise_signal(signal.SIGINT)


@pytest.mark.slow
@pytest.mark.parametrize("batch", [False, True])
@pytest.mark.parametrize("epochs", [1, 5])
@pytest.mark.parametrize("method", METHODS)
def test_the_fit_so_far_is_kept(method, epochs, batch):
    clf = method(max_epochs=9, batch_size=32, warmup_epochs=2, random_state=0)
    clf.set_params(callbacks=[CtrlC(epochs, batch)])
    with pytest.warns(UserWarning, match=f"after {epochs} of 9 epochs"):
        clf.fit(X, y)
    assert clf.n_iter_ == epochs
    np.testing.assert_allclose(clf.soft_labels_.sum(axis=1), 1, atol=1e-5)
    assert clf.predict(X).shape == (80,)
    assert len(TrainingDisplay.from_estimator(clf).phases) == epochs


def test_an_interruption_before_the_first_epoch_ends_leaves_nothing_behind():
    clf = ALRClassifier(max_epochs=3, warmup_epochs=1, callbacks=[CtrlC(0, batch=True)])
    with pytest.raises(KeyboardInterrupt):
        clf.fit(X, y)
    with pytest.raises(NotFittedError):
        clf.predict(X)


def test_an_interruption_of_the_search_ends_the_fit(monkeypatch):
    from sknoisy.training import warmup_search

    class Interrupted(warmup_search.GivenLabels):
        def on_epoch_end(self, net, **kwargs):
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(warmup_search, "GivenLabels", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        ALRClassifier(max_epochs=9).fit(X, y)


@pytest.mark.slow
@pytest.mark.parametrize(("n_jobs", "backend"), [(1, "loky"), (2, "loky")])
def test_no_half_trained_fold_is_scored(n_jobs, backend):
    import joblib

    clf = ALRClassifier(max_epochs=3, warmup_epochs=1, callbacks=[CtrlC(1)], random_state=0)
    with joblib.parallel_backend(backend), pytest.raises(KeyboardInterrupt):
        cross_val_score(clf, X, y, cv=2, n_jobs=n_jobs)


def test_a_handler_written_in_python_is_an_interruption_too():
    def handle(number, frame):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, handle)
    try:
        with pytest.warns(UserWarning, match="interrupted"):
            ALRClassifier(max_epochs=3, callbacks=[CtrlC(1)], random_state=0).fit(X, y)
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.filterwarnings("ignore:Training ended with epoch")
def test_callbacks_that_end_training_are_no_interruption():
    class Enough(skorch.callbacks.Callback):
        def on_epoch_end(self, net, **kwargs):
            if len(net.history) == 2:
                raise KeyboardInterrupt

    early = skorch.callbacks.EarlyStopping(monitor="train_loss", patience=1, threshold=10.0)
    for stop in (Enough(), early):
        clf = ALRClassifier(max_epochs=9, callbacks=[stop], random_state=0)
        assert clf.fit(X, y).n_iter_ == 2
        assert len(cross_val_score(clf, X, y, cv=2)) == 2


def stop():
    raise KeyboardInterrupt


def handle(text, number, frame):
    stop()


class Handler:
    def __call__(self, number, frame):
        stop()


@pytest.mark.parametrize("handler", [partial(handle, "x"), Handler(), lambda n, f: stop()])
def test_handlers_of_the_users_are_ctrl_c_as_well(handler):
    before = signal.signal(signal.SIGINT, handler)
    try:
        clf = ALRClassifier(max_epochs=9, warmup_epochs=2, callbacks=[CtrlC(3)], random_state=0)
        with pytest.warns(UserWarning, match="after 3 of 9 epochs"):
            clf.fit(X, y)
        with pytest.raises(KeyboardInterrupt):
            cross_val_score(clf, X, y, cv=2)
    finally:
        signal.signal(signal.SIGINT, before)
