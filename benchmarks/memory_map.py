"""Fit on a memory-mapped .npy larger than the memory the process may take.

Writes a table of float32 (or float64) numbers to a temporary folder, then fits in a process whose
data segment the kernel limits (RLIMIT_DATA: heap and anonymous memory; pages of the file, which it
drops at will, do not count). Prints the process's peaks. Linux only.

    python benchmarks/memory_map.py [--gigabytes 5] [--limit 2] [--dtype float32]
"""

import argparse
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter

import machine
import numpy as np

FEATURES = 1024
CHUNK = 65_536


def write(path, gigabytes, dtype):
    """Write rows whose class is the sign of their first feature."""
    n_rows = int(gigabytes * 1e9 / FEATURES / np.dtype(dtype).itemsize)
    X = np.lib.format.open_memmap(path, "w+", dtype=dtype, shape=(n_rows, FEATURES))
    rng = np.random.default_rng(0)
    block = rng.normal(size=(CHUNK, FEATURES)).astype(dtype)
    for start in range(0, n_rows, CHUNK):
        size = min(CHUNK, n_rows - start)
        X[start : start + size] = block[:size]
        X[start : start + size, 0] = rng.normal(size=size)
    X.flush()


def fit(path, limit):
    """Fit and predict under the limit; print what it took."""
    import torch

    from sknoisy import ALRClassifier

    resource.setrlimit(resource.RLIMIT_DATA, (int(limit * 1e9), int(limit * 1e9)))
    X = np.load(path, mmap_mode="r")
    y = (X[:, 0] > 0).astype(int)
    clf = ALRClassifier(max_epochs=1, warmup_epochs=0, batch_size=1024, random_state=0)
    start = perf_counter()
    clf.fit(X, y)
    fitted = perf_counter()
    accuracy = clf.score(X, y)
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    print(f"{X.nbytes / 1e9:.1f} GB, {X.shape}, {X.dtype}; {torch.get_num_threads()} torch threads")
    print(
        f"fit {fitted - start:.0f} s, score {perf_counter() - fitted:.0f} s, {accuracy:.1%} right"
    )
    print(
        f"limit {limit} GB; data segment {int(status['VmData'].split()[0]) / 1e6:.2f} GB,", end=""
    )
    print(f" anonymous memory {int(status['RssAnon'].split()[0]) / 1e6:.2f} GB at the end")


def main(gigabytes, limit, dtype):
    print(machine.describe())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "X.npy"
        write(path, gigabytes, dtype)
        command = [sys.executable, __file__, "--fit", str(path), "--limit", str(limit)]
        done = subprocess.run(command, check=False)
    sys.exit(done.returncode)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gigabytes", type=float, default=5)
    parser.add_argument("--limit", type=float, default=2, help="in GB")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--fit", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.fit:
        fit(arguments.fit, arguments.limit)
    else:
        main(arguments.gigabytes, arguments.limit, arguments.dtype)
