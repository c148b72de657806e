"""Processes that share a fit: seconds an epoch against one process, and the exchange of a table.

2,048 images of 3 x 32 x 32, the default small ResNet, batch 128: each method's main phase, one
process of one thread, then two of one thread each. A table of 200,000 x 500 soft labels, of which
each of two processes wrote half: seconds until both have all. The median of several turns.

    OMP_NUM_THREADS=1 python benchmarks/processes.py [--repeats 3]
"""

import argparse
import math
import statistics
import tempfile
import warnings
from pathlib import Path
from time import perf_counter
from unittest import mock

import machine
import numpy as np
import torch
import torch.distributed as dist

from sknoisy import ALRClassifier, MetaLabelNetClassifier, SyntheticMixClassifier
from sknoisy.training import shared_memory
from sknoisy.training.process_group import joined

N, N_TRUSTED, CLASSES, EPOCHS = 2048, 256, 10, 4
ROWS, COLUMNS = 200_000, 500
METHODS = {
    "ALRClassifier": (ALRClassifier, {"warmup_epochs": 1}),
    "SyntheticMixClassifier": (SyntheticMixClassifier, {"warmup_epochs": 1, "mix_start": 2}),
    "MetaLabelNetClassifier": (MetaLabelNetClassifier, {"warmup_epochs": 1}),
}


def epoch_seconds(name, *, distributed):
    """Return the median time of an epoch after the first two."""
    rng = np.random.default_rng(0)
    X = rng.integers(256, size=(N, 3, 32, 32), dtype=np.uint8)
    y = rng.integers(CLASSES, size=N)
    method, params = METHODS[name]
    trusted = {"meta_X": X[:N_TRUSTED], "meta_y": y[:N_TRUSTED]} if "Meta" in name else {}
    clf = method(
        **params, max_epochs=EPOCHS, evidence=False, random_state=0, distributed=distributed
    )
    with warnings.catch_warnings(action="ignore"):
        clf.fit(X, y, **trusted)
    return statistics.median(clf.history_[2:, "dur"])


def exchange_seconds(shared_bytes):
    """Return the time in which two processes give each other their halves of a table."""
    with joined(True) as ranks, mock.patch.object(shared_memory, "SHARED_BYTES", shared_bytes):
        table = ranks.zeros((ROWS, COLUMNS), torch.float32)
        rows = torch.randperm(ROWS, generator=torch.Generator().manual_seed(0))
        rows = ranks.own(rows)
        table[rows] = 1.0
        ranks.any(False)
        begun = perf_counter()
        ranks.exchange(table, rows)
        seconds = perf_counter() - begun
        assert table.min() == 1
    return seconds


def serve(rank, store, names, out):
    """Measure in one of two processes; the first one writes what it found."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    found = [epoch_seconds(name, distributed=True) for name in names]
    found += [exchange_seconds(math.inf), exchange_seconds(0)]
    if rank == 0:
        np.save(out, found)
    dist.destroy_process_group()


def main():
    """Print a line a method."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=3)
    repeats = parser.parse_args().repeats
    torch.set_num_threads(1)
    print(machine.describe())
    alone, together = [], []
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(repeats):
            alone.append([epoch_seconds(name, distributed=False) for name in METHODS])
            out = Path(folder) / f"{turn}.npy"
            arguments = (f"{folder}/store{turn}", list(METHODS), str(out))
            torch.multiprocessing.spawn(serve, args=arguments, nprocs=2)
            together.append(np.load(out))
    one, two = np.median(alone, axis=0), np.median(together, axis=0)
    for k, name in enumerate(METHODS):
        ratio = np.median([b[k] / t[k] for b, t in zip(alone, together, strict=True)])
        print(f"{name:<24} {one[k]:.2f} s an epoch, 2 processes {two[k]:.2f} s: {ratio:.2f} x")
    print(
        f"exchange of {ROWS:,} x {COLUMNS} float32: {two[-2]:.2f} s,"
        f" in shared memory {two[-1]:.4f} s"
    )


if __name__ == "__main__":
    main()
