"""Weights of rows and of classes: what scikit-learn means by them."""

import numpy as np
import pytest
import sklearn
import torch
from conftest import METHODS
from make_references import Float64Net
from sklearn.datasets import make_blobs
from sklearn.model_selection import cross_val_score
from sklearn.utils.estimator_checks import (
    check_sample_weight_equivalence_on_dense_data,
    check_sample_weight_equivalence_on_sparse_data,
)
from torch import nn

from sknoisy import ALRClassifier, MetaLabelNetClassifier, SyntheticMixClassifier
from sknoisy.metalabelnet.hypergradient import (
    VirtualStep,
    by_double_backward,
    by_finite_difference,
    by_jvp,
)

without_trusted = pytest.mark.filterwarnings("ignore:No trusted rows:UserWarning")


FLOAT64 = {"batch_size": -1, "optimizer": torch.optim.SGD, "lr": 0.1, "max_epochs": 40}


@without_trusted
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:max_epochs must")
@pytest.mark.parametrize(
    "check",
    [check_sample_weight_equivalence_on_dense_data, check_sample_weight_equivalence_on_sparse_data],
)
@pytest.mark.parametrize(
    "clf",
    [
        ALRClassifier(Float64Net, warmup_epochs=15, **FLOAT64),
        # A repeated row is its own nearest neighbor, and may fill the least-loss rows that
        # stand in for trusted ones: these two promise it for the warm-up.
        SyntheticMixClassifier(Float64Net, warmup_epochs=49, mix_start=60, **FLOAT64),
        MetaLabelNetClassifier(Float64Net, warmup_epochs=50, **FLOAT64),
    ],
    ids=lambda clf: type(clf).__name__,
)
def test_weights_equal_repeated_rows_in_float64_with_one_batch(clf, check):
    check(type(clf).__name__, clf)


@pytest.mark.slow
def test_weights_equal_repeated_rows_once_labels_are_generated():
    X, y = make_blobs(60, 4, centers=3, cluster_std=6.0, random_state=0)
    meta = {"meta_X": X[:12], "meta_y": y[:12]}
    weights = np.random.default_rng(0).integers(0, 4, len(X))
    params = {"warmup_epochs": 10, "trusted_weight": 0, "random_state": 0}
    clf = MetaLabelNetClassifier(Float64Net, **params, **FLOAT64)
    weighted = clf.fit(X, y, weights, **meta).predict_proba(X)
    unweighted = clf.fit(X, y, **meta).predict_proba(X)
    repeated = clf.fit(X.repeat(weights, 0), y.repeat(weights), **meta).predict_proba(X)
    np.testing.assert_allclose(weighted, repeated, rtol=1e-6)
    assert abs(weighted - unweighted).max() > 1e-3


def test_hypergradient_weighs_the_rows():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3)).double()
    X = torch.randn(6, 4).double()
    step = VirtualStep(
        module=module,
        X=X,
        logits=module(X),
        label_logits=torch.randn(6, 3).double(),
        trusted_X=torch.randn(5, 4).double(),
        trusted_y=torch.arange(5) % 3,
        step_size=0.5,
        scale=1.0,
        generator_state=torch.get_rng_state(),
        weights=torch.tensor([0.0, 0.5, 1.0, 1.5, 2.0, 1.0]).double(),
    )
    exact = by_double_backward(step)
    assert (exact[0] == 0).all()
    torch.testing.assert_close(by_jvp(step), exact)
    torch.testing.assert_close(by_finite_difference(step), exact, rtol=1e-4, atol=1e-8)


@pytest.mark.slow
@without_trusted
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("weights", ["sample_weight", "class_weight"])
def test_rows_that_weigh_nothing_teach_nothing(method, weights):
    X, y = make_blobs(150, 2, centers=3, random_state=0)
    clf = method(random_state=0, max_epochs=30)
    if weights == "class_weight":
        clf.set_params(class_weight={0: 1, 1: 1, 2: 0}).fit(X, y)
    else:
        clf.fit(X, y, sample_weight=np.where(y == 2, 0, 1))
    heavy, light = y != 2, y == 2
    assert clf.score(X[heavy], y[heavy]) > 0.9
    if method is not MetaLabelNetClassifier:  # its stand-ins for trusted rows are of every class
        assert clf.score(X[light], y[light]) < 0.1


@pytest.mark.slow
@without_trusted
@pytest.mark.parametrize("method", METHODS)
def test_equal_weights_are_none(method):
    X, y = make_blobs(80, 3, centers=2, random_state=0)
    clf = method(max_epochs=20, random_state=0)
    plain = clf.fit(X, y).predict_proba(X)
    np.testing.assert_allclose(clf.fit(X, y, np.full(80, 7.0)).predict_proba(X), plain, atol=1e-5)


@without_trusted
@pytest.mark.filterwarnings("ignore:m.* must", "ignore:target_momentum")
@pytest.mark.parametrize("method", METHODS)
def test_class_weights_multiply_the_loss_as_weights_of_rows_do(method):
    X, y = make_blobs(80, 3, centers=2, random_state=0)
    y = np.where(np.arange(80) < 70, y, 1 - y)
    clf = method(max_epochs=10, warmup_epochs=10, random_state=0)  # they differ where labels move
    if method is SyntheticMixClassifier:
        clf.set_params(mix_start=11)
    balanced = clf.set_params(class_weight="balanced").fit(X, y).predict_proba(X)
    counts = len(y) / (2 * np.bincount(y))
    by_hand = clf.set_params(class_weight=None).fit(X, y, counts[y]).predict_proba(X)
    np.testing.assert_allclose(balanced, by_hand, atol=1e-5)


@pytest.mark.slow
def test_weights_are_routed_and_cut_to_the_folds():
    X, y = make_blobs(120, 2, centers=2, random_state=0)
    y_wrong = np.where(np.arange(120) % 3, y, 1 - y)
    weights = (y == y_wrong).astype(float)
    with sklearn.config_context(enable_metadata_routing=True):
        clf = ALRClassifier(max_epochs=30, random_state=0).set_fit_request(sample_weight=True)
        clf.set_score_request(sample_weight=False)
        scores = cross_val_score(
            clf, X, y_wrong, params={"sample_weight": weights}, error_score="raise"
        )
    assert scores.mean() < 0.75  # two of three labels can be right, and all of those are learned
    fitted = ALRClassifier(max_epochs=30, random_state=0).fit(X, y_wrong, sample_weight=weights)
    assert fitted.score(X, y) > 0.95


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        ([1.0] * 19, "sample_weight must have one number a row of X, .20,., got .19,."),
        ([[1.0]] * 20, "sample_weight must have one number a row"),
        ([-1.0] + [1.0] * 19, "sample_weight must not be negative, got -1"),
        ([np.nan] + [1.0] * 19, "sample_weight contains NaN"),
        ([0.0] * 20, "not every weight may be zero"),
        (["a"] * 20, "could not convert"),
    ],
)
def test_unusable_weights_are_refused(weights, said):
    X, y = make_blobs(20, 2, centers=2, random_state=0)
    with pytest.raises(ValueError, match=said):
        ALRClassifier().fit(X, y, weights)


@pytest.mark.parametrize(
    ("weight", "said"),
    [
        ("heavy", "class_weight must be None, 'balanced' or a dict, got 'heavy'"),
        ({0: -1, 1: 1}, "class_weight must be finite and not negative"),
        ({5: 1.0}, "are not in class_weight"),
        ({0: np.nan, 1: 1}, "class_weight must be finite"),
    ],
)
def test_unusable_class_weights_are_refused(weight, said):
    X, y = make_blobs(20, 2, centers=2, random_state=0)
    with pytest.raises(ValueError, match=said):
        ALRClassifier(class_weight=weight).fit(X, y)


@pytest.mark.slow
@without_trusted
@pytest.mark.filterwarnings("ignore:target_momentum")
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("warmup", [4, "auto"])
def test_the_label_of_a_row_of_weight_zero_does_not_matter(method, warmup):
    X, y = make_blobs(120, 3, centers=2, cluster_std=4.0, random_state=0)
    weights = np.where(np.arange(120) < 40, 0, 1)
    wrong = np.where(weights, y, 1 - y)
    clf = method(max_epochs=20, warmup_epochs=warmup, batch_size=40, random_state=0)
    right_labels = clf.fit(X, y, weights).predict_proba(X)
    np.testing.assert_allclose(clf.fit(X, wrong, weights).predict_proba(X), right_labels, atol=1e-6)
