"""Probabilities, their logarithms, and the network that they come from."""

import signal
from types import SimpleNamespace

import numpy as np
import pytest
import skorch
import torch
from conftest import METHODS
from sklearn.datasets import make_blobs
from sklearn.model_selection import cross_val_predict

from sknoisy import ALRClassifier

pytestmark = pytest.mark.filterwarnings("ignore:No trusted rows", "ignore:target_momentum")
X, y = make_blobs(80, 3, centers=3, random_state=0)
X = X.astype(np.float32)


class CtrlC(skorch.callbacks.Callback):
    """Interrupts in the midst of the second epoch."""

    def on_batch_end(self, net, training=False, **kwargs):
        if len(net.history) == 2 and training:
            signal.raise_signal(signal.SIGINT)


def fit(method, **params):
    params = {"max_epochs": 4, "warmup_epochs": 1, "batch_size": 32, **params}
    return method(random_state=0, **params).fit(X, y)


def probabilities_of_the_network(clf, temperature=1.0):
    with torch.no_grad():
        return (clf.module_(torch.from_numpy(X)) / temperature).softmax(dim=1).numpy()


def test_the_network_is_the_one_that_predicts(method):
    clf = fit(method)
    found = probabilities_of_the_network(clf)  # before any prediction has changed its mode
    np.testing.assert_allclose(found, clf.predict_proba(X), atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_so_it_is_after_ctrl_c(method):
    with pytest.warns(UserWarning, match="interrupted"):
        clf = fit(method, callbacks=[CtrlC()])
    found = probabilities_of_the_network(clf)
    np.testing.assert_allclose(found, clf.predict_proba(X), atol=1e-6)


def test_so_it_is_from_a_file(method, tmp_path):
    pytest.importorskip("safetensors")
    clf = fit(method)
    clf.save(tmp_path / "clf")
    found = probabilities_of_the_network(method.load(tmp_path / "clf", allow=[method]))
    np.testing.assert_allclose(found, clf.predict_proba(X), atol=1e-6)


def test_the_temperature_divides_the_logits():
    clf = fit(ALRClassifier)
    clf.evidence_ = SimpleNamespace(temperature=2.5)
    found = probabilities_of_the_network(clf, 2.5)
    np.testing.assert_allclose(found, clf.predict_proba(X), atol=1e-6)
    np.testing.assert_allclose(np.exp(clf.predict_log_proba(X)), found, atol=1e-6)
    clf.set_params(calibrate=False)
    np.testing.assert_allclose(clf.predict_proba(X), probabilities_of_the_network(clf), atol=1e-6)


def test_log_probabilities_are_the_logarithms(method):
    clf = fit(method)
    proba, log_proba = clf.predict_proba(X), clf.predict_log_proba(X)
    assert (log_proba.shape, log_proba.dtype) == (proba.shape, proba.dtype)
    np.testing.assert_allclose(np.exp(log_proba), proba, rtol=1e-5)


def test_log_probabilities_of_what_rounds_to_zero_are_finite():
    clf = fit(ALRClassifier)
    with torch.no_grad():
        clf.module_[-1].weight.mul_(1e4)
    assert (clf.predict_proba(X) == 0).any()
    log_proba = clf.predict_log_proba(X)
    assert np.isfinite(log_proba).all()
    with torch.no_grad():
        logits = clf.module_(torch.from_numpy(X)).double()
    np.testing.assert_allclose(log_proba, logits.log_softmax(dim=1), rtol=1e-4, atol=1e-4)


def test_cross_val_predict_takes_log_probabilities():
    clf = ALRClassifier(max_epochs=2, warmup_epochs=1, random_state=0)
    found = cross_val_predict(clf, X, y, cv=2, method="predict_log_proba")
    expected = cross_val_predict(clf, X, y, cv=2, method="predict_proba")
    np.testing.assert_allclose(np.exp(found), expected, rtol=1e-5)
