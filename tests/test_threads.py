"""Threads and joblib's backends: the same results, nobody's generator touched."""

import warnings
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import joblib
import numpy as np
import pytest
import torch
from conftest import METHODS
from sklearn.datasets import make_blobs
from sklearn.model_selection import GridSearchCV

from sknoisy import ALRClassifier

pytestmark = [
    pytest.mark.slow,
    pytest.mark.evidence,
    pytest.mark.filterwarnings(
        "ignore:No trusted rows:UserWarning", "ignore:target_momentum", "ignore:Labels were left"
    ),
]
X, Y = make_blobs(150, 4, centers=3, cluster_std=3.0, random_state=0)


def fit(method, seed):
    return method(max_epochs=6, module__hidden=32, lr=0.01, random_state=seed).fit(X, Y)


@pytest.fixture
def generators_stay():
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002
    before = torch.get_rng_state(), np.random.get_state()[1]  # noqa: NPY002
    yield
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002


@pytest.mark.usefixtures("generators_stay")
@pytest.mark.parametrize("method", METHODS)
def test_fits_in_threads_equal_serial_ones(method):
    serial = [fit(method, seed).predict_proba(X) for seed in range(3)]
    with ThreadPoolExecutor(3) as pool:
        parallel = list(pool.map(lambda seed: fit(method, seed).predict_proba(X), range(3)))
    np.testing.assert_array_equal(serial, parallel)
    assert not np.array_equal(serial[0], serial[1])


@pytest.mark.usefixtures("generators_stay")
@pytest.mark.parametrize("method", METHODS)
def test_one_estimator_predicts_in_many_threads(method):
    clf = fit(method, 0)
    parts = [X[k : k + 50] + 0.01 * k for k in range(100)]
    serial = [clf.predict_proba(part) for part in parts]
    with ThreadPoolExecutor(8) as pool:
        parallel = list(pool.map(clf.predict_proba, parts))
    np.testing.assert_array_equal(serial, parallel)


@pytest.mark.usefixtures("generators_stay")
def test_predictions_beside_a_fit_leave_it_as_it_is():
    clf, alone = fit(ALRClassifier, 0), fit(ALRClassifier, 1).predict_proba(X)
    with ThreadPoolExecutor(2) as pool:
        fitting = pool.submit(fit, ALRClassifier, 1)
        while not fitting.done():
            clf.predict_proba(X)
        beside = fitting.result().predict_proba(X)
    np.testing.assert_array_equal(alone, beside)


def search(method, **params):
    settings = {"module__hidden": 8, "lr": 0.001}, {"module__hidden": (16, 16), "lr": 0.01}
    grid = [{name: [value] for name, value in setting.items()} for setting in settings]
    clf = method(**{"max_epochs": 5, "module__hidden": 32, "random_state": 0} | params)
    found = GridSearchCV(clf, grid, cv=2, n_jobs=2, error_score="raise")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*(No trusted|target_momentum|num_workers)")
        return found.fit(X, Y)


def assert_same_search(found, other):
    for name in ("mean_test_score", "std_test_score", "rank_test_score"):
        np.testing.assert_array_equal(found.cv_results_[name], other.cv_results_[name])
    assert found.best_params_ == other.best_params_
    np.testing.assert_array_equal(found.predict_proba(X), other.predict_proba(X))


@pytest.fixture(scope="module")
def by_loky():
    """Return what a search in processes finds, by the method."""

    @cache
    def found(method):
        with joblib.parallel_config("loky"):
            return search(method)

    return found


@pytest.mark.parametrize("method", METHODS)
def test_grid_searches_are_the_same_under_loky_and_threading(method, by_loky):
    with joblib.parallel_config("threading"):
        assert_same_search(by_loky(method), search(method))


def test_a_grid_search_is_the_same_under_dask(by_loky):
    distributed = pytest.importorskip("distributed", reason="needs dask's distributed")
    found = by_loky(ALRClassifier)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of dask's own
        with (
            distributed.Client(processes=False, n_workers=2, dashboard_address=None),
            joblib.parallel_config("dask"),
        ):
            assert_same_search(found, search(ALRClassifier))


@pytest.mark.parametrize("backend", ["threading", "loky"])
def test_data_loader_workers_fall_back_inside_a_worker(backend, by_loky):
    with joblib.parallel_config(backend):
        assert_same_search(
            by_loky(ALRClassifier), search(ALRClassifier, iterator_train__num_workers=1)
        )


def test_the_fall_back_is_told():
    clf = ALRClassifier(max_epochs=2, warmup_epochs=1, iterator_train__num_workers=1)
    with (
        ThreadPoolExecutor(1) as pool,
        pytest.warns(UserWarning, match="starts no processes inside a parallel worker"),
    ):
        pool.submit(clf.fit, X, Y).result()
