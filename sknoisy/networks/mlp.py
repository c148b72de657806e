"""The network for tables, which `module=None` builds."""

from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from sknoisy.networks.sparse_linear import SparseLinear, occurring_columns
from sknoisy.networks.standardize import Standardize

TEXT_COLUMNS, TEXT_DROPOUT = 1000, 0.5
SPARSE_COLUMNS = 10_000  # below it sparse batches are read no faster, or not by much
INPUT_DROPOUTS = {200: 0.2, 30: 0.1}  # fraction dropped, from so many columns on


class UniformDropout(nn.Dropout):
    """Dropout whose mask compares numbers of 16 bits: on a CPU in a third of the time of torch's.

    There each number that is drawn is one of 64 bits, cut in four; p counts to 1 / 65536.
    """

    def forward(self, X: Tensor) -> Tensor:
        """Return X with the fraction p of its numbers zeroed and the others scaled, in training."""
        is_plain = not self.training or self.p == 1 or torch.compiler.is_compiling()
        if is_plain or not X.is_cpu:
            return super().forward(X)
        drawn = torch.empty(-(-X.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
        numbers = drawn.view(torch.int16)[: X.numel()].view(X.shape)  # from -2**15 on
        is_kept = numbers >= round(self.p * 2**16) - 2**15
        return X * is_kept.to(X.dtype).mul_(1 / (1 - self.p))


class MLP(nn.Sequential):
    """Multi-layer perceptron for tables: the network that ``module=None`` builds.

    Parameters
    ----------
    n_features, n_classes : int
        Sizes of input and output.
    hidden : int or tuple of int, default=(256, 256)
        Units of the hidden layers.
    dropout : float, default=0.25
        Fraction of the hidden units dropped in training.
    input_dropout : float, default=0.0
        Fraction of the inputs dropped in training. ``module=None`` takes what `auto_input_dropout`
        returns.
    columns : None or array-like of int, default=None
        The columns that have weights, in ascending order; the first layer is then a `SparseLinear`.
        ``module=None`` takes what `auto_columns` returns.
    """

    def __init__(
        self,
        n_features: int,
        n_classes: int,
        *,
        hidden=(256, 256),
        dropout=0.25,
        input_dropout=0.0,
        columns=None,
    ):
        widths = [n_features, *np.atleast_1d(hidden).tolist()]
        if not all(isinstance(width, int) and width > 0 for width in widths[1:]):
            raise ValueError(f"module__hidden must hold integers of at least 1, got {hidden!r}.")
        if columns is not None and len(widths) > 1:
            first = SparseLinear(columns, widths[1], UniformDropout(input_dropout))
            layers = [first, nn.ReLU(), UniformDropout(dropout)]
            widths = widths[1:]
        else:
            layers = [Standardize(n_features)]
            if input_dropout:
                layers.append(UniformDropout(input_dropout))
        for fan_in, fan_out in pairwise(widths):
            layers += [nn.Linear(fan_in, fan_out), nn.ReLU(), UniformDropout(dropout)]
        super().__init__(*layers, nn.Linear(widths[-1], n_classes))
        self.input_dropout = input_dropout


def auto_input_dropout(X) -> float:
    """Return the fraction of inputs to drop: 0.1 from 30 columns on, 0.2 from 200; 0.5 for text.

    Many columns are redundant, and a single unusual value is enough to memorize a row; of few
    columns each may be needed. Text is a sparse matrix of 1,000 columns or more: half of the words
    of a row identify its class.
    """
    if hasattr(X, "toarray") and X.shape[1] >= TEXT_COLUMNS:
        return TEXT_DROPOUT
    return next((rate for least, rate in INPUT_DROPOUTS.items() if X.shape[1] >= least), 0.0)


def auto_columns(X) -> np.ndarray | None:
    """Return the columns that get weights: those that occur, for text of 10,000 columns or more.

    None, for all, where the first layer reads dense batches.
    """
    if not hasattr(X, "toarray") or X.shape[1] < SPARSE_COLUMNS:
        return None
    columns = occurring_columns(X)
    return columns if len(columns) else None
