"""How many labels can be wrong: what nearest neighbours tell of it, without clean labels."""

import math

import numpy as np
import torch
from sklearn.metrics.pairwise import euclidean_distances

from sknoisy.standardize import Standardize

FEWEST_ROWS = 50  # fewer tell nothing
ROWS, QUERIES = 10_000, 2_000  # of a sample, and of those whose neighbours are looked for
NUMBERS = 2**25  # in a sample at most
CHUNK_QUERIES = 250  # whose distances are held at once
SAME = 1e-5  # distance between rows that are one, relative to their length


def highest_noise_rate(X, labels, weights=None) -> float:
    """Return the share of labels that can be wrong, given how often nearest neighbours disagree.

    Where a class has a share r < 0.5 of wrong labels, whatever its neighbours' are, two rows of it
    have one label with probability ``(1 - r)^2 + r^2 <= 1 - r`` at most, and rows of two classes
    less often. So no more labels are wrong, on average, than neighbours disagree. Mistakes that
    neighbours share go unseen. Where they agree in a half or less it says nothing, nor do fewer
    than 50 rows: 1.

    Parameters
    ----------
    X : array-like of shape (n_samples, ...) or CSR matrix
        Up to 2,000 rows ask, and up to 10,000 answer; a row equal to another is no witness for it.
    labels : ndarray of shape (n_samples,)
        Class numbers, as given.
    weights : Tensor of shape (n_samples,) or None, default=None
        What each row counts.
    """
    weights = np.ones(len(labels)) if weights is None else weights.numpy()
    numbers = np.flatnonzero(weights > 0)
    if len(numbers) < FEWEST_ROWS:
        return 1.0
    numbers_a_row = X.nnz // X.shape[0] if hasattr(X, "toarray") else math.prod(X.shape[1:])
    size = min(ROWS, max(FEWEST_ROWS, NUMBERS // max(1, numbers_a_row)))
    numbers = np.random.default_rng(0).permutation(numbers)[:size]
    rows, labels, weights = comparable(X[numbers]), labels[numbers], weights[numbers]
    agree = counted = 0.0
    for first in range(0, min(QUERIES, len(numbers)), CHUNK_QUERIES):
        asked = slice(first, min(first + CHUNK_QUERIES, QUERIES))
        distances = euclidean_distances(rows[asked], rows)  # (Q, N)
        lengths = euclidean_distances(rows[asked], np.zeros((1, rows.shape[1]), rows.dtype))
        distances[distances <= SAME * lengths] = np.inf  # the row itself, and those equal to it
        nearest = distances.argmin(axis=1)
        count = weights[asked] * np.isfinite(distances.min(axis=1))
        agree += (count * (labels[nearest] == labels[asked])).sum()
        counted += count.sum()
    agreement = agree / counted if counted else 0.0
    return 1.0 if agreement <= 0.5 else 1 - agreement


def comparable(rows):
    """Return rows (n, ...) as a matrix whose Euclidean distances mean something.

    Standardized, but for a CSR matrix that is too large when dense: text, whose columns compare.
    """
    if hasattr(rows, "toarray"):
        if math.prod(rows.shape) > NUMBERS:
            return rows
        rows = rows.toarray()
    rows = np.asarray(rows, dtype=np.float32).reshape(len(rows), -1)
    return Standardize(rows.shape[1]).fit(rows)(torch.from_numpy(rows)).numpy()
