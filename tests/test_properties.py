"""Whatever goes in: a fit works and keeps its invariants, or says which parameter is wrong."""

import re
import string
import warnings

import numpy as np
import pytest
import torch
from conftest import METHODS
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from scipy import sparse
from sklearn.datasets import make_blobs
from sklearn.exceptions import ConvergenceWarning
from skorch.dataset import ValidSplit
from torch import nn

from sknoisy import ALRClassifier

pytestmark = pytest.mark.contract

pandas = pytest.importorskip("pandas")
PARAMETERS = ("X", "y", "sample_weight", "train_split", "batch_size", "max_epochs", "n_samples")
QUIET = (
    "No trusted rows",
    "max_epochs must",
    "target_momentum",
    "The least populated class",
    "The number of unique classes is greater",
)


def fit(clf, X, y, **fit_params):
    with warnings.catch_warnings():
        for message in QUIET:
            warnings.filterwarnings("ignore", message=message)
        return clf.fit(X, y, **fit_params)


def check_invariants(clf, X, y):
    soft, proba = clf.soft_labels_, clf.predict_proba(X)
    assert list(clf.classes_) == sorted(set(np.asarray(y).tolist()))
    assert soft.shape == proba.shape == (len(y), len(clf.classes_))
    for table in (soft, proba):
        assert np.isfinite(table).all()
        assert (table >= 0).all()
        np.testing.assert_allclose(table.sum(axis=1), 1, atol=1e-4)
    assert np.array_equal(clf.given_labels_, np.asarray(y))
    assert set(clf.predict(X)) <= set(clf.classes_)


LABELS = {
    "int": st.integers(-5, 5),
    "big": st.integers(-(2**60), 2**60),
    "bool": st.booleans(),
    "text": st.text(string.printable, max_size=3).filter(lambda s: "\0" not in s),
    "whole float": st.integers(-3, 3).map(float),
}
CONTAINERS = {
    "array": np.asarray,
    "float32": lambda X: np.asarray(X, dtype=np.float32),
    "Fortran": np.asfortranarray,
    "list": lambda X: np.asarray(X).tolist(),
    "frame": pandas.DataFrame,
    "csr": sparse.csr_matrix,
    "csc": sparse.csc_array,
    "tensor": torch.as_tensor,
}


@st.composite
def problems(draw):
    n = draw(st.integers(1, 14))
    kind = draw(st.sampled_from(sorted(LABELS)))
    some = draw(st.lists(LABELS[kind], min_size=1, max_size=6, unique=True))
    y = draw(st.lists(st.sampled_from(some), min_size=n, max_size=n))
    seed = draw(st.integers(0, 99))
    X = np.random.default_rng(seed).normal(size=(n, draw(st.integers(1, 4))))
    y = np.array(y) if draw(st.booleans()) else y
    return CONTAINERS[draw(st.sampled_from(sorted(CONTAINERS)))](X), y


@pytest.mark.parametrize("method", METHODS)
@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(
    problem=problems(),
    batch_size=st.sampled_from([-1, 1, 2, 5, 128]),
    max_epochs=st.integers(0, 4),
    split=st.sampled_from([None, 2, 0.3]),
    weights=st.sampled_from([None, "ones", "first", "short"]),
)
def test_a_fit_works_or_names_the_parameter(
    method, problem, batch_size, max_epochs, split, weights
):
    X, y = problem
    sample_weight = {
        None: None, "ones": np.ones(len(y)), "first": np.eye(1, len(y))[0], "short": [1.0] * 99
    }[weights]  # fmt: skip
    clf = method(
        max_epochs=max_epochs,
        batch_size=batch_size,
        train_split=split and ValidSplit(split),
        module__hidden=4,
        random_state=0,
    )
    try:
        fit(clf, X, y, sample_weight=sample_weight)
    except (ValueError, TypeError) as error:
        event("refused")
        assert re.search(rf"\b({'|'.join(PARAMETERS)})\b", str(error)), error  # noqa: PT017
    else:
        event("fitted")
        check_invariants(clf, X, y)


RNG = np.random.default_rng(0)
BLOBS, COLORS = make_blobs(60, 3, centers=3, random_state=0)
EXTREMES = {
    "1e30": (BLOBS * 1e30, COLORS),
    "1e-30": (BLOBS * 1e-30, COLORS),
    "far from zero": (BLOBS + 1e7, COLORS),
    "constant column": (np.column_stack([BLOBS, np.ones(60)]), COLORS),
    "all rows equal": (np.ones((30, 2)), np.arange(30) % 3),
    "one row a class": (RNG.normal(size=(5, 2)), np.arange(5)),
    "one feature": (BLOBS[:, :1], COLORS),
    "10,000 features": (RNG.normal(size=(40, 10_000)), np.arange(40) % 2),
    "1,000 classes": (RNG.normal(size=(2000, 4)), np.arange(2000) % 1000),
    "contradictory duplicates": (np.repeat(BLOBS[:10], 4, axis=0), np.arange(40) % 3),
    "one row of a class": (BLOBS, np.where(np.arange(60) == 7, 9, COLORS % 2)),
    "two rows": (np.eye(2), [0, 1]),
    "outlier": (np.vstack([BLOBS, [[1e30, -1e30, 0]]]), [*COLORS, 0]),
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", EXTREMES)
def test_extreme_data(method, name):
    X, y = EXTREMES[name]
    clf = fit(method(max_epochs=6, module__hidden=16, random_state=0), X, y)
    check_invariants(clf, X, y)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("params", [{"batch_size": 1}, {"max_epochs": 1}, {"batch_size": 7}])
def test_extreme_parameters(method, params):
    clf = fit(method(**{"max_epochs": 3, "random_state": 0, **params}), BLOBS, COLORS)
    check_invariants(clf, BLOBS, COLORS)


@pytest.mark.parametrize("method", METHODS)
def test_no_epochs_are_refused(method):
    with pytest.raises(ValueError, match="max_epochs == 0, must be >= 1"):
        method(max_epochs=0).fit(BLOBS, COLORS)


@pytest.mark.parametrize("method", METHODS)
def test_a_class_of_one_row_with_a_split(method):
    y = np.where(np.arange(60) == 7, 9, COLORS % 2)
    clf = method(max_epochs=3, train_split=ValidSplit(0.2, random_state=0), random_state=0)
    check_invariants(fit(clf, BLOBS, y), BLOBS, y)
    stratified = clf.set_params(train_split=ValidSplit(2, stratified=True))
    check_invariants(fit(stratified, BLOBS, y), BLOBS, y)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("lr", [1e4, 1e30])
def test_a_rate_that_diverges_is_told_with_what_to_lower(method, lr):
    clf = method(
        nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 3)),
        optimizer=torch.optim.SGD,
        lr=lr,
        max_epochs=30,
        random_state=0,
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        clf.fit(BLOBS * 100, COLORS)
    told = [str(w.message) for w in caught if w.category is ConvergenceWarning]
    if not np.isfinite(clf.predict_proba(BLOBS * 100)).all():
        assert len(told) == 1
        assert "Training diverged: the loss of the last epoch is" in told[0]
        assert f"Lower lr={lr:g}" in told[0]
    if lr == 1e30:
        assert told


def test_weights_that_burst_in_the_last_step_are_told():
    network = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 3))
    clf = ALRClassifier(
        network, optimizer=torch.optim.SGD, lr=1e38, batch_size=-1, max_epochs=1, warmup_epochs=0
    )
    with pytest.warns(ConvergenceWarning, match="Training diverged"):
        clf.fit(BLOBS * 1e4, COLORS)
    assert np.isfinite(clf.history_[-1, "train_loss"])
