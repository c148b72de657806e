import logging

import numpy as np
import pytest
from sklearn.datasets import make_blobs
from skorch.callbacks import ProgressBar

from sknoisy import ALRClassifier
from sknoisy.training import progress
from sknoisy.training.progress import FitClock

X, Y = make_blobs(80, 3, centers=2, random_state=0)


@pytest.fixture
def slow_clock(monkeypatch):
    """Each look at the clock takes 5 s more."""
    monkeypatch.setattr(FitClock, "has_told", False)
    monkeypatch.setattr(progress, "perf_counter", iter(np.arange(0, 1e6, 5.0)).__next__)


@pytest.mark.parametrize(("max_epochs", "is_told"), [(12, False), (30, True)])
def test_a_long_fit_says_so_once(slow_clock, caplog, max_epochs, is_told):
    clf = ALRClassifier(max_epochs=max_epochs, module__hidden=4, random_state=0)
    clf.fit(X, Y)
    clf.fit(X, Y)
    messages = [r.getMessage() for r in caplog.records if r.name == "sknoisy"]
    assert len(messages) == is_told
    if is_told:  # 30 epochs of 5 s
        assert "about 2 minutes. verbose=1" in messages[0]
        assert "evidence" not in messages[0]
        assert caplog.records[0].levelno == logging.WARNING


@pytest.mark.parametrize("params", [{"verbose": 1}, {"callbacks": [ProgressBar]}])
def test_a_fit_that_shows_progress_says_nothing(slow_clock, caplog, params):
    ALRClassifier(max_epochs=30, module__hidden=4, **params).fit(X, Y)
    assert not caplog.records


@pytest.mark.evidence
@pytest.mark.filterwarnings("ignore:Labels were left as given")
def test_evidence_counts_and_prints_its_networks(slow_clock, caplog, capsys):
    ALRClassifier(max_epochs=8, module__hidden=4, random_state=0).fit(X, Y)
    assert "about 3 minutes" in caplog.records[0].getMessage()  # 4 networks, 8 epochs, 5 s
    assert "evidence=False halves" in caplog.records[0].getMessage()
    assert not capsys.readouterr().out
    clf = ALRClassifier(max_epochs=8, module__hidden=4, random_state=0, verbose=1).fit(X, Y)
    lines = capsys.readouterr().out.splitlines()
    told = [line for line in lines if line.startswith("evidence: network")]
    assert [line[:24] for line in told] == [f"evidence: network {k} of 4" for k in range(1, 5)]
    assert clf.evidence_ is not None


def test_a_silent_fit_lays_out_no_table_of_epochs():
    silent, printed = (
        ALRClassifier(max_epochs=2, module__hidden=4, verbose=verbose).fit(X, Y)
        for verbose in (0, 1)
    )
    assert "print_log" not in dict(silent.net_.callbacks_)
    assert "print_log" in dict(printed.net_.callbacks_)
    asked = ALRClassifier(max_epochs=2, callbacks__print_log__sink=print).fit(X, Y)
    assert "print_log" in dict(asked.net_.callbacks_)
