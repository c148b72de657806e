"""How many labels can be wrong: what nearest neighbours tell of it, and trusted rows."""

import math

import numpy as np
import torch
from sklearn.metrics.pairwise import euclidean_distances

from sknoisy.networks.standardize import Standardize

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
    numbers = sample_rows(X, weights)
    if len(numbers) < FEWEST_ROWS:
        return 1.0
    (rows,) = comparable(X[numbers])
    asked, labels = numbers[:QUERIES], labels[numbers]
    nearest, is_known = nearest_other(rows[: len(asked)], rows)
    counts = weights[asked] * is_known
    agree = (counts * (labels[nearest] == labels[: len(asked)])).sum()
    agreement = agree / counts.sum() if counts.any() else 0.0
    return 1.0 if agreement <= 0.5 else float(1 - agreement)


def highest_noise_rate_near(
    trusted_X, trusted_labels, X, labels, weights=None, shares=None
) -> float:
    """Return the share of labels that can be wrong, given what stands beside trusted rows.

    Where a class has a share r < 0.5 of wrong labels, wherever its rows lie, a row of it has
    another label with probability r, and a row of another class more often. So no more labels are
    wrong, on average, than those of the rows nearest to trusted ones; a standard error is added.
    Wrong labels of rows that are nobody's nearest, odd ones in many dimensions, go unseen: hear
    another witness as well. Where a half or less is right it says nothing, nor do fewer than 50
    rows: 1.

    Parameters
    ----------
    trusted_X : array-like of shape (n_meta, ...) or CSR matrix
        Up to 2,000 of them ask. Each class's are a fair sample of it.
    trusted_labels : ndarray of shape (n_meta,)
        Their class numbers, which are right.
    X, labels, weights : array-like, ndarray and Tensor or None
        The rows that answer, as in `highest_noise_rate`: all that weigh anything, each alike.
    shares : ndarray of shape (n_classes,) or None, default=None
        The true classes' shares of these rows; None takes those of the given labels, which say too
        little of classes that lose labels to others.
    """
    weights = np.ones(len(labels)) if weights is None else weights.numpy()
    numbers = sample_rows(X, weights)
    if len(numbers) < FEWEST_ROWS:
        return 1.0
    asked = sample_rows(trusted_X, np.ones(len(trusted_labels)))[:QUERIES]
    rows, asking = comparable(X[numbers], trusted_X[asked])
    nearest, is_known = nearest_other(asking, rows)
    classes = trusted_labels[asked][is_known]
    agrees = labels[numbers][nearest[is_known]] == classes
    if shares is None:
        shares = np.bincount(labels, weights=weights, minlength=1 + trusted_labels.max())
    n_asked = np.bincount(classes, minlength=len(shares))
    n_right = np.bincount(classes, weights=agrees, minlength=len(shares))
    witnesses = np.unique([classes, nearest[is_known]], axis=1)[0]  # one may be asked again
    n_witnesses = np.bincount(witnesses, minlength=len(shares))
    shares = shares * (n_asked > 0)
    if not shares.any():
        return 1.0
    shares, right = shares / shares.sum(), n_right / np.maximum(n_asked, 1)
    rates = (right * n_witnesses + 1) / (n_witnesses + 2)  # never quite 0 or 1
    error = math.sqrt((shares**2 * rates * (1 - rates) / np.maximum(n_witnesses, 1)).sum())
    agreement = (shares * right).sum()
    return 1.0 if agreement <= 0.5 else min(1.0, float(1 - agreement + error))


def sample_rows(X, weights):
    """Return the numbers of a random sample of up to 10,000 rows that weigh something."""
    numbers = np.flatnonzero(weights > 0)
    if len(numbers) <= FEWEST_ROWS:
        return numbers
    numbers_a_row = X.nnz // X.shape[0] if hasattr(X, "toarray") else math.prod(X.shape[1:])
    size = min(ROWS, max(FEWEST_ROWS, NUMBERS // max(1, numbers_a_row)))
    return np.random.default_rng(0).permutation(numbers)[:size]


def nearest_other(asking, answering):
    """Return the number (Q,) of the nearest row that is not the same, and whether there is one."""
    nearest = np.zeros(asking.shape[0], dtype=np.int64)
    is_known = np.zeros(asking.shape[0], dtype=bool)
    zero = np.zeros((1, asking.shape[1]), answering.dtype)
    for first in range(0, asking.shape[0], CHUNK_QUERIES):
        chunk = slice(first, first + CHUNK_QUERIES)
        distances = euclidean_distances(asking[chunk], answering)  # (Q, N)
        distances[distances <= SAME * euclidean_distances(asking[chunk], zero)] = np.inf
        nearest[chunk] = distances.argmin(axis=1)
        is_known[chunk] = np.isfinite(distances.min(axis=1))
    return nearest, is_known


def comparable(rows, *others):
    """Return blocks of rows (n, ...) as matrices whose Euclidean distances mean something.

    Standardized by the first, but for a CSR matrix that is too large when dense: text, whose
    columns compare.
    """
    blocks = [rows, *others]
    if hasattr(rows, "toarray") and max(math.prod(block.shape) for block in blocks) > NUMBERS:
        return blocks
    blocks = [block.toarray() if hasattr(block, "toarray") else block for block in blocks]
    blocks = [np.asarray(block, dtype=np.float32).reshape(len(block), -1) for block in blocks]
    standardize = Standardize(blocks[0].shape[1]).fit(blocks[0])
    return [standardize(torch.from_numpy(block)).numpy() for block in blocks]
