"""First layers that standardize inputs by constants of the training data."""

import numpy as np
import torch
from torch import Tensor, nn

from sknoisy.rows import stored_type

MAX_DEVIATIONS = 5.0  # standard deviations; outliers beyond it would dominate a batch
CHUNK_ROWS = 4096
FEWEST_STEPS = 1000  # of float32 in a column's range; with fewer, rows stay in float64
CHANNEL_ROWS = 1024  # images that are enough to estimate the mean of each channel


def rounds_in_float32(X) -> bool:
    """Return whether float32 has fewer than 1,000 steps in the range of a column of X (n, d).

    Such as seconds since 1970 over a day: standardized, they would be a staircase.
    """
    low, high = (np.asarray(extreme(axis=0), dtype=np.float64) for extreme in (X.min, X.max))
    largest, width = np.maximum(-low, high), high - low
    varies = width > 10 * np.finfo(np.float64).eps * largest  # not by rounding alone
    with np.errstate(over="ignore", invalid="ignore"):
        step = np.spacing(largest.astype(np.float32))
    return bool((varies & (step * FEWEST_STEPS > width)).any())


class Standardize(nn.Module):
    """Shift and scale each feature by constants of the training data, then clip.

    Values further than 5 standard deviations from the mean are clipped, once fitted. Columns of a
    sparse matrix are scaled but not shifted, so that their zeros stay zeros, unless their mean
    exceeds their deviation: then few of their numbers are zeros. Rows in float64 are
    standardized in it, and leave as numbers of the other layers' type.
    """

    def __init__(self, n_features: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(n_features))
        self.register_buffer("scale", torch.ones(n_features))
        self.register_buffer("limit", torch.tensor(torch.inf))

    def fit(self, X) -> "Standardize":
        """Compute the constants from X (n_samples, n_features), an array or a CSR matrix."""
        # In chunks: squares of the whole of X in float64 would take twice its memory.
        chunks = [slice(k, k + CHUNK_ROWS) for k in range(0, X.shape[0], CHUNK_ROWS)]
        dtype = stored_type(X)
        mean = sum(_column_sums(_stored(X[rows], dtype)) for rows in chunks) / X.shape[0]
        if hasattr(X, "toarray"):
            squares = sum(_column_sums(X[rows].power(2)) for rows in chunks) / X.shape[0]
            variance = np.maximum(squares - mean**2, 0)
            mean = np.where(mean**2 > variance, mean, 0.0)  # zeros are rare: a number, not a word
        else:
            squares = (_column_sums((_stored(X[rows], dtype) - mean) ** 2) for rows in chunks)
            variance = sum(squares) / X.shape[0]
        scale = np.sqrt(variance)
        # A constant column keeps rounding noise as its spread: treat it as no spread.
        constant = scale <= 10 * np.finfo(dtype).eps * np.abs(mean)
        if dtype == np.float64:
            self.mean, self.scale = self.mean.double(), self.scale.double()
        self.mean.copy_(torch.from_numpy(mean))
        self.scale.copy_(torch.from_numpy(np.where(constant, 1.0, scale)))
        self.limit.fill_(MAX_DEVIATIONS)
        return self

    def forward(self, X: Tensor) -> Tensor:
        """Return X (B, n_features) standardized."""
        scaled = (X - self.mean) / self.scale
        return scaled.to(self.limit.dtype).clamp(-self.limit, self.limit)


def _stored(rows, dtype):
    """Return rows as batches hold them, row by row: sums depend on neither type nor layout."""
    return rows if hasattr(rows, "toarray") else np.ascontiguousarray(rows, dtype=dtype)


def _column_sums(X):
    return np.asarray(X.sum(axis=0, dtype=np.float64)).ravel()


class StandardizeChannels(nn.Module):
    """Shift and scale each channel of images by constants of the training data.

    Parameters
    ----------
    n_channels : int
        Number of channels.
    mean, std : sequence of float or None
        Constants that pretrained weights expect, for images in [0, 1]; `fit` then changes nothing.
    """

    def __init__(self, n_channels: int, mean=None, std=None):
        super().__init__()
        self.is_given = mean is not None
        zeros, ones = [0.0] * n_channels, [1.0] * n_channels
        self.register_buffer("mean", torch.tensor(mean or zeros).view(-1, 1, 1))
        self.register_buffer("scale", torch.tensor(std or ones).view(-1, 1, 1))

    def fit(self, X) -> "StandardizeChannels":
        """Compute the constants from some 1,000 images of X (n, channels, height, width)."""
        if self.is_given:
            return self
        images = X[np.arange(0, X.shape[0], -(-X.shape[0] // CHANNEL_ROWS))]
        images = _stored(images, stored_type(X))
        unit = 255.0 if images.dtype == np.uint8 else 1.0
        axes = (0, *range(2, images.ndim))
        self.mean[:, 0, 0] = torch.from_numpy(images.mean(axes, dtype=np.float64) / unit)
        scale = torch.from_numpy(images.std(axes, dtype=np.float64) / unit)
        self.scale[:, 0, 0] = scale.where(scale > 1e-7, torch.ones(()).double())
        return self

    def forward(self, X: Tensor) -> Tensor:
        """Return images X (B, channels, height, width) standardized."""
        return (X - self.mean) / self.scale
