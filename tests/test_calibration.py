"""The temperature of the last network: that of held-out rows, as far as its logits are as wide."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.metrics import log_loss

from sknoisy import ALRClassifier, MetaLabelNetClassifier
from sknoisy.display import EvidenceDisplay
from sknoisy.display.evidence import reliability_curve
from sknoisy.noise import symmetric_noise
from sknoisy.training.calibration import calibrated, held_out_spread, spread_of
from sknoisy.training.ranks import ALONE

pytestmark = [
    pytest.mark.evidence,
    pytest.mark.filterwarnings("ignore:Labels were left as given"),
    pytest.mark.filterwarnings("ignore:X seems to tell nothing"),
]


def test_the_spread_is_the_deviation_from_row_and_class_in_any_parts_and_of_any_prior():
    z = torch.randn(50, 3, generator=torch.Generator().manual_seed(0)).double()
    about = z - z.mean(dim=1, keepdim=True)
    by_hand = (about - about.mean(dim=0)).square().sum(dim=1).mean().sqrt().item()
    assert spread_of([z]) == pytest.approx(by_hand)
    assert spread_of(z.split(7)) == pytest.approx(by_hand)
    moved = 2 * z + torch.tensor([1.0, -2.0, 3.0]) + torch.randn(50, 1)
    assert spread_of([moved]) == pytest.approx(2 * by_hand)
    weights = torch.arange(50) % 2
    assert held_out_spread(z, weights) == pytest.approx(spread_of([z[1::2]]))


@pytest.fixture(scope="module")
def digits():
    """400 digits, 40 % flipped, in a random order: X, given, true; and 1,397 others: X, y."""
    X, y = load_digits(return_X_y=True)
    order = np.random.RandomState(0).permutation(len(X))
    X, y = X[order].astype(np.float32), y[order]
    return X[:400], symmetric_noise(y[:400], 0.4, random_state=0), y[:400], X[400:], y[400:]


@pytest.mark.slow
def test_the_temperature_follows_wider_logits_and_no_narrower_ones(digits):
    X, given = digits[:2]
    clf = ALRClassifier(max_epochs=4, random_state=0).fit(X, given)
    logits = clf.set_params(calibrate=False).predict_log_proba(X[clf.evidence_.is_held_out])
    found = spread_of([torch.from_numpy(logits)])
    for spread, wider in ((found / 3, 3.0), (found * 2, 1.0), (np.nan, 1.0), (0.0, 1.0)):
        evidence = replace(clf.evidence_, temperature=0.7, spread=spread)
        told = calibrated(evidence, clf.net_, X, ALONE).temperature
        assert told == pytest.approx(0.7 * wider, rel=1e-4)
    assert calibrated(None, clf.net_, X, ALONE) is None


@pytest.mark.slow
def test_held_out_logits_are_shown_as_they_are(digits):
    pytest.importorskip("matplotlib").use("agg")
    X, given = digits[:2]
    clf = ALRClassifier(max_epochs=10, random_state=0).fit(X, given)
    found = clf.evidence_
    assert found.temperature > 1.3 * found.held_out_temperature
    logits = found.held_out_temperature * np.log(found.proba)
    before = torch.from_numpy(logits).softmax(1).numpy()
    assert log_loss(given, before) == pytest.approx(found.log_loss_before, abs=1e-4)
    line = EvidenceDisplay.from_estimator(clf).lines_["before"].get_xydata()
    np.testing.assert_allclose(line, np.transpose(reliability_curve(before, given)), atol=1e-5)
    old = replace(found, temperature=found.held_out_temperature, held_out_temperature=np.nan)
    clf.evidence_ = old
    again = EvidenceDisplay.from_estimator(clf).lines_["before"].get_xydata()
    np.testing.assert_array_equal(again, line)


@pytest.mark.slow
@pytest.mark.parametrize("method", [ALRClassifier, MetaLabelNetClassifier])
def test_short_fits_are_calibrated(method, digits):
    """Networks of halves know little after 20 steps, and the last one, after 40, twice as much."""
    X, given, true, X_test, y_test = digits
    given, params = given.copy(), {}
    if method is MetaLabelNetClassifier:
        trusted = np.arange(400) % 4 == 0
        given[trusted], params["trusted"] = true[trusted], trusted
    clf = method(max_epochs=10, random_state=0).fit(X, given, **params)
    found = log_loss(y_test, clf.predict_proba(X_test))
    log_p = clf.set_params(calibrate=False).predict_log_proba(X_test)
    losses = {
        t: log_loss(y_test, torch.from_numpy(log_p / t).softmax(1).numpy())
        for t in np.geomspace(0.05, 5, 50)
    }
    assert found < losses[min(losses, key=losses.get)] + 0.05
    assert found < log_loss(y_test, np.exp(log_p))
