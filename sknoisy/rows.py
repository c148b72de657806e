"""Sets of rows: the type that their batches have, and views that copy nothing."""

import numpy as np
from scipy import sparse


def stored_type(X):
    """Return the type that batches of X have in memory: images may stay uint8."""
    if getattr(X, "is_double", False):
        return np.float64
    return np.uint8 if X.dtype == np.uint8 and X.ndim > 2 else np.float32


class DoubleRows:
    """Array-like view of a table in float64 whose batches stay so: float32 would round a column.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
        In float64.
    """

    is_double = True

    def __init__(self, X):
        self.parts = (X,)
        self.dtype, self.shape, self.ndim = X.dtype, X.shape, X.ndim

    def __len__(self):
        return self.shape[0]

    def __getitem__(self, index):
        return self.parts[0][index]


def take_rows(X, index):
    """Return some rows of X, in the type that its batches have."""
    rows = X[index]
    return DoubleRows(rows) if stored_type(X) == np.float64 else rows


class StackedRows:
    """Array-like view of two sets of rows, stacked vertically, that copies neither."""

    def __init__(self, first, second):
        self.parts = first, second
        self.is_double = getattr(first, "is_double", False)
        self.dtype = first.dtype
        self.shape = (first.shape[0] + second.shape[0], *first.shape[1:])
        self.ndim = len(self.shape)

    def __getitem__(self, index):
        index = np.arange(self.shape[0])[index]
        first, second = self.parts
        is_first = index < first.shape[0]
        rows = np.empty((len(index), *self.shape[1:]), dtype=self.dtype)
        if is_first.any():
            rows[is_first] = first[index[is_first]]
        if not is_first.all():
            rows[~is_first] = second[index[~is_first] - first.shape[0]]
        return rows


def stack_rows(first, second):
    """Return the rows of two arrays, or of two CSR matrices, stacked vertically."""
    if hasattr(first, "toarray"):
        return sparse.vstack([first, sparse.csr_matrix(second)], format="csr")
    return StackedRows(first, second.toarray() if hasattr(second, "toarray") else second)
