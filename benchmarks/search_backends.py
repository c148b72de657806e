"""A grid search over joblib's backends: seconds, and that all find the same scores.

12 settings x 3 folds of default fits of ALRClassifier on digits, two workers of one thread each:
serial, loky, dask, and Ray, each where it is installed (``pip install "dask[distributed]" ray``).
Workers start within the time.

    OMP_NUM_THREADS=1 python benchmarks/search_backends.py
"""

import importlib.util
from contextlib import contextmanager, nullcontext
from time import perf_counter

import joblib
import machine
import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV

from sknoisy import ALRClassifier
from sknoisy.noise import symmetric_noise

GRID = {"lr": [0.0005, 0.001, 0.002], "entropy_weight": [0.1, 0.2, 0.5, 1.0]}


@contextmanager
def dask():
    """Run the block's joblib on two dask workers."""
    from dask.distributed import Client, LocalCluster

    cluster = LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None)
    with cluster, Client(cluster), joblib.parallel_config(backend="dask"):
        yield


@contextmanager
def ray():
    """Run the block's joblib on two Ray workers."""
    import ray as library
    from ray.util.joblib import register_ray

    library.init(num_cpus=2, log_to_driver=False)
    register_ray()
    with joblib.parallel_config(backend="ray", n_jobs=2):
        yield
    library.shutdown()


def main():
    """Print a line a backend."""
    torch.set_num_threads(1)
    print(machine.describe())
    X, y = load_digits(return_X_y=True)
    y = symmetric_noise(y, 0.4, random_state=0)
    expected = serial = None
    backends = {"serial": nullcontext, "loky": lambda: joblib.parallel_config(n_jobs=2)}
    backends |= {name: f for name, f in (("dask", dask), ("ray", ray))
                 if importlib.util.find_spec(name)}  # fmt: skip
    for name, backend in backends.items():
        clf = ALRClassifier(random_state=0)
        with backend():
            begun = perf_counter()
            search = GridSearchCV(clf, GRID, cv=3).fit(X, y)
            seconds = perf_counter() - begun
        scores = search.cv_results_["mean_test_score"]
        expected = scores if expected is None else expected
        serial = serial or seconds
        same = "the same scores" if np.array_equal(scores, expected) else "other scores"
        print(f"{name:<8} {seconds:6.1f} s, {serial / seconds:.2f} x serial, {same}", flush=True)


if __name__ == "__main__":
    main()
