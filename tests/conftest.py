import os
import signal
import sys
from contextlib import contextmanager
from dataclasses import replace
from unittest import mock

import numpy as np
import pytest
import torch
from joblib import parallel_config
from sklearn.datasets import make_classification
from threadpoolctl import threadpool_limits
from toy import ToyClassifier

from sknoisy import ALRClassifier, MetaLabelNetClassifier, SyntheticMixClassifier
from sknoisy.noise import symmetric_noise
from sknoisy.training import cross_fit, recipe

# One thread a process: where there are more of them than cores, BLAS's wait in busy loops for one
# another, and a product of small matrices takes a hundred times as long.
torch.set_num_threads(1)
threadpool_limits(1)
os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # of processes that tests start
# A shell that starts the tests in the background has them ignore Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Every method goes through every test of what methods have in common.
METHODS = [ALRClassifier, SyntheticMixClassifier, MetaLabelNetClassifier, ToyClassifier]


FEWEST_ROWS = cross_fit.FEWEST_ROWS


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """Gather evidence in tests that are marked so, and nowhere else: it doubles a fit's time."""
    is_wanted = item.get_closest_marker("evidence") is not None
    cross_fit.FEWEST_ROWS = FEWEST_ROWS if is_wanted else sys.maxsize


@pytest.fixture(params=METHODS, ids=lambda method: method.__name__)
def method(request):
    return request.param


@contextmanager
def limited_epochs(most=4):
    """Let no fit take more epochs: that a script runs is tested, not what it prints.

    Searches stay in this process: in others the limit would not hold. Of fewer than 4 epochs no
    evidence is gathered.
    """
    of = recipe.NetRecipe.of

    def short(*args, **kwargs):
        found = of(*args, **kwargs)
        return replace(found, max_epochs=min(found.max_epochs, most), refinement=None)

    with parallel_config("sequential"), mock.patch.object(recipe.NetRecipe, "of", short):
        yield


@pytest.fixture
def few_epochs():
    with limited_epochs():
        yield


@pytest.fixture(autouse=True)
def close_figures():
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")


@pytest.fixture
def blobs():
    """Four classes, 600 rows: X, noisy labels, true labels."""
    X, true = make_classification(
        600, 10, n_informative=8, n_redundant=0, n_classes=4, class_sep=2, flip_y=0, random_state=0
    )
    X = X.astype(np.float32)
    return X, symmetric_noise(true, 0.3, random_state=0), true
