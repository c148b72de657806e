"""An epoch on text of many columns against scikit-learn's MLPClassifier, and the memory of a fit.

10,000 rows of 80 words, drawn from 100,000 columns with equal chances, so that nearly all columns
occur; 4 classes with words of their own, a fifth of the labels wrong. Both train one hidden layer
of 256 units in batches of 128 rows, with Adam or AdamW; median of the epochs of one run. Memory is
the resident memory at its peak beyond that before the fit, in a process of its own, for 5 epochs;
also with 2**20 columns. The first layer's weights are those of the columns that occur.

    python benchmarks/text_speed.py [--epochs 3]
"""

import argparse
import multiprocessing
import statistics
import warnings
from time import perf_counter

import machine
import numpy as np
from scipy import sparse
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier

from sknoisy import ALRClassifier
from sknoisy.noise import symmetric_noise

ROWS, WORDS, OWN_WORDS, CLASSES = 10_000, 80, 500, 4
UNITS, BATCH, EPOCHS = 256, 128, 5
MB = 2**20


def text(columns):
    """Return a CSR matrix of words and the noisy labels of its rows."""
    rng = np.random.default_rng(0)
    y = rng.integers(CLASSES, size=ROWS)
    words = rng.integers(columns, size=(ROWS, WORDS))
    words[:, :5] = OWN_WORDS * y[:, None] + rng.integers(OWN_WORDS, size=(ROWS, 5))
    values = rng.random(ROWS * WORDS, dtype=np.float32)
    X = sparse.csr_matrix(
        (values, words.ravel(), np.arange(0, ROWS * WORDS + 1, WORDS)), shape=(ROWS, columns)
    )
    X.sum_duplicates()
    return X, symmetric_noise(y, 0.2, random_state=0)


def classifier(epochs, **params):
    """Return the classifier that is measured."""
    return ALRClassifier(
        module__hidden=UNITS, batch_size=BATCH, max_epochs=epochs, random_state=0, **params
    )


def epoch_seconds(epochs):
    """Return the seconds of each epoch, of either."""
    X, y = text(100_000)
    theirs = MLPClassifier((UNITS,), batch_size=BATCH, random_state=0)
    seconds = []
    for _ in range(epochs):
        start = perf_counter()
        theirs.partial_fit(X, y, classes=range(CLASSES))
        seconds.append(perf_counter() - start)
    ours = classifier(epochs + 2, evidence=False, warmup_epochs=1).fit(X, y)
    return seconds, ours.history_[:, "dur"]


def resident(name):
    """Return the bytes of this process in memory, now (VmRSS) or at the peak (VmHWM), on Linux."""
    # Not by getrusage, whose peak a new process inherits.
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


def peak_of_fit(columns, params):
    """Return the bytes of the first layer's weights, and of the fit beyond what was there."""
    warnings.simplefilter("ignore", UserWarning)
    X, y = text(columns)
    classifier(EPOCHS, **params).fit(X[:200, :500], y[:200])  # loads what fits load
    before = resident("VmRSS")
    clf = classifier(EPOCHS, **params).fit(X, y)
    return clf.module_[0].weight.nbytes, resident("VmHWM") - before


def main(epochs):
    print(machine.describe())
    theirs, ours = epoch_seconds(epochs)
    theirs, ours = statistics.median(theirs), statistics.median(ours)
    print(f"\n{ROWS} rows, {WORDS} words a row, 100,000 columns, an epoch")
    print(
        f"MLPClassifier{theirs:>9.2f} s\nALRClassifier{ours:>9.2f} s\n  ratio {ours / theirs:.3f}"
    )
    print("\nPeak memory of a fit")
    for columns in (100_000, 2**20):
        for params in ({"evidence": False}, {"evidence": True}):
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                weights, peak = pool.apply(peak_of_fit, (columns, params))
            print(
                f"{columns:>9} columns, evidence={params['evidence']!s:<6} {peak / MB:>6.0f} MB,"
                f" {peak / weights:.1f} x the first layer's weights of {weights / MB:.0f} MB"
            )


if __name__ == "__main__":
    warnings.simplefilter("ignore", UserWarning)
    warnings.simplefilter("ignore", ConvergenceWarning)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=3)
    main(**vars(parser.parse_args()))
