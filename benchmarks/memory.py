"""Memory that a fit adds, in tables of soft labels: one number a row and class, in float32.

Each fit runs in a process of its own, after a small one that loads what all need; the peak of its
resident memory less what was resident before. The class of each row is the largest of random linear
functions, a fifth of the labels are at random.

    python benchmarks/memory.py [--rows 200000] [--columns 20] [--classes 500] [--epochs 4]
                                [--batch-size 1024]
"""

import argparse
import resource
import subprocess
import sys

import machine
import numpy as np

import sknoisy
from sknoisy import ALRClassifier, MetaLabelNetClassifier, SyntheticMixClassifier

METHODS = {c.__name__: c for c in (ALRClassifier, SyntheticMixClassifier, MetaLabelNetClassifier)}
N_TRUSTED, FLIPPED = 2000, 0.2


def resident_bytes():
    """Return the memory that is resident now."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def fit(method, n_rows, n_columns, n_classes, evidence, epochs, batch_size):
    """Fit on random rows."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n_rows, n_columns), dtype=np.float32)
    weights = rng.standard_normal((n_columns, n_classes), dtype=np.float32)
    y = np.concatenate([(part @ weights).argmax(axis=1) for part in np.array_split(X, 100)])
    flipped = rng.random(n_rows) < FLIPPED
    y[flipped] = rng.integers(n_classes, size=flipped.sum())
    y[:n_classes] = np.arange(n_classes)
    trusted = {}
    if method is MetaLabelNetClassifier:
        trusted = {"meta_X": X[:N_TRUSTED], "meta_y": y[:N_TRUSTED]}
    clf = method(
        max_epochs=epochs, batch_size=batch_size, evidence=evidence, random_state=0, verbose=0
    )
    before = resident_bytes()
    clf.fit(X, y, **trusted)
    return before


def measure(arguments):
    """Print the peak, in tables."""
    method, is_gathered = METHODS[arguments.one], arguments.evidence
    fit(method, 3000, arguments.columns, 20, is_gathered, arguments.epochs, 128)
    before = fit(
        method,
        arguments.rows,
        arguments.columns,
        arguments.classes,
        is_gathered,
        arguments.epochs,
        arguments.batch_size,
    )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    table, X = arguments.rows * arguments.classes * 4, arguments.rows * arguments.columns * 4
    added = peak - before
    print(f"{added / table:.2f} tables, {added / X:.2f} times X; {peak / 2**30:.2f} GiB in all")


def main():
    """Print a line a method, without evidence and with it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--columns", type=int, default=20)
    parser.add_argument("--classes", type=int, default=500)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--batch-size", type=int, default=1024)
    parser.add_argument("--methods", nargs="*", choices=METHODS, default=[*METHODS])
    parser.add_argument("--one", choices=METHODS, help=argparse.SUPPRESS)
    parser.add_argument("--evidence", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        measure(arguments)
        return
    print(f"{machine.describe()}; sknoisy {sknoisy.__version__}")
    print(
        f"{arguments.rows:,} rows x {arguments.columns} columns, {arguments.classes} classes,"
        f" {arguments.epochs} epochs"
    )
    given = [f"--{name}={getattr(arguments, name.replace('-', '_'))}"
             for name in ("rows", "columns", "classes", "epochs", "batch-size")]  # fmt: skip
    for name in arguments.methods:
        for option, label in (([], "evidence=False"), (["--evidence"], "evidence=True")):
            command = [sys.executable, __file__, "--one", name, *given, *option]
            found = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            print(f"{name:<24} {label:<15} {found.strip()}", flush=True)


if __name__ == "__main__":
    main()
