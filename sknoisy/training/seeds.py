"""Seeds: numpy's and torch's generators in a fit, and as they were after it."""

import threading
from contextlib import contextmanager

import numpy as np
import torch

MAX_SEED = np.iinfo(np.int32).max

# torch's CPU generator is global: two fits that seed it in two threads would mix their streams.
_GENERATOR_LOCK = threading.RLock()


@contextmanager
def seeded(seed, device):
    """Seed numpy and torch, then put them back."""
    devices = [device] if device.type == "cuda" else []
    with _GENERATOR_LOCK, torch.random.fork_rng(devices):
        numpy_state = np.random.get_state()  # noqa: NPY002 - the legacy generator is the global one
        np.random.seed(seed)  # noqa: NPY002
        torch.manual_seed(seed)
        try:
            yield
        finally:
            np.random.set_state(numpy_state)  # noqa: NPY002
