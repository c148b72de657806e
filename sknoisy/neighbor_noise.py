"""Upper bounds of the noise rate: label disagreement between nearest neighbors."""

import math

import numpy as np
import torch
from sklearn.metrics.pairwise import euclidean_distances

from sknoisy.networks.standardize import Standardize

FEWEST_ROWS = 50  # fewer allow no estimate
ROWS, QUERIES = 10_000, 2_000  # reference and query rows, at most
NUMBERS = 2**25  # in a sample, at most
CHUNK_QUERIES = 250  # whose distances are in memory at once
SAME = 1e-5  # distance between duplicates, relative to their norm, at most


def highest_noise_rate(X, labels, weights=None) -> float:
    """Return an upper bound of the noise rate: the label disagreement of nearest neighbors.

    In a class with noise rate r < 0.5, whatever the rates of its neighbors, two rows have the same
    label with probability ``(1 - r)^2 + r^2 <= 1 - r`` at most, and rows of two classes less often.
    The disagreement is therefore, on average, at least the noise rate. Errors common to neighbors
    are not detected. 1 where at most half of the neighbors agree, and for fewer than 50 rows.

    Parameters
    ----------
    X : array-like of shape (n_samples, ...) or CSR matrix
        At most 2,000 query and 10,000 reference rows are used; exact duplicates are not neighbors.
    labels : ndarray of shape (n_samples,)
        Class numbers, as given.
    weights : Tensor of shape (n_samples,) or None, default=None
        Sample weights.
    """
    weights = np.ones(len(labels)) if weights is None else weights.numpy()
    numbers = sample_rows(X, weights)
    if len(numbers) < FEWEST_ROWS:
        return 1.0
    (reference,) = comparable(X[numbers])
    queries, labels = numbers[:QUERIES], labels[numbers]
    nearest, is_known = nearest_other(reference[: len(queries)], reference)
    counts = weights[queries] * is_known
    agree = (counts * (labels[nearest] == labels[: len(queries)])).sum()
    agreement = agree / counts.sum() if counts.any() else 0.0
    return 1.0 if agreement <= 0.5 else float(1 - agreement)


def sample_rows(X, weights):
    """Return the numbers of a random sample of at most 10,000 rows of positive weight."""
    numbers = np.flatnonzero(weights > 0)
    if len(numbers) <= FEWEST_ROWS:
        return numbers
    numbers_a_row = X.nnz // X.shape[0] if hasattr(X, "toarray") else math.prod(X.shape[1:])
    size = min(ROWS, max(FEWEST_ROWS, NUMBERS // max(1, numbers_a_row)))
    return np.random.default_rng(0).permutation(numbers)[:size]


def nearest_other(query, reference):
    """Return the number (Q,) of the nearest row that is no duplicate, and whether there is one."""
    nearest = np.zeros(query.shape[0], dtype=np.int64)
    is_known = np.zeros(query.shape[0], dtype=bool)
    zero = np.zeros((1, query.shape[1]), reference.dtype)
    for first in range(0, query.shape[0], CHUNK_QUERIES):
        chunk = slice(first, first + CHUNK_QUERIES)
        distances = euclidean_distances(query[chunk], reference)  # (Q, N)
        distances[distances <= SAME * euclidean_distances(query[chunk], zero)] = np.inf
        nearest[chunk] = distances.argmin(axis=1)
        is_known[chunk] = np.isfinite(distances.min(axis=1))
    return nearest, is_known


def comparable(rows, *others):
    """Return blocks of rows (n, ...) as matrices for Euclidean distances.

    They are standardized by the first block, except for a CSR matrix that is too large when dense:
    text, whose columns have a common scale.
    """
    blocks = [rows, *others]
    if hasattr(rows, "toarray") and max(math.prod(block.shape) for block in blocks) > NUMBERS:
        return blocks
    blocks = [block.toarray() if hasattr(block, "toarray") else block for block in blocks]
    blocks = [np.asarray(block, dtype=np.float32).reshape(len(block), -1) for block in blocks]
    standardize = Standardize(blocks[0].shape[1]).fit(blocks[0])
    return [standardize(torch.from_numpy(block)).numpy() for block in blocks]
