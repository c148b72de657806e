"""The network for tables, which `module=None` builds."""

from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from sknoisy.networks.standardize import Standardize

TEXT_COLUMNS, TEXT_DROPOUT = 1000, 0.5
INPUT_DROPOUTS = {200: 0.2, 30: 0.1}  # share dropped of so many columns or more


class UniformDropout(nn.Dropout):
    """Dropout whose mask compares uniform numbers: on a CPU in half the time of torch's."""

    def forward(self, X: Tensor) -> Tensor:
        """Return X with the share p of its numbers zeroed and the others scaled, in training."""
        if not self.training or X.is_cuda:
            return super().forward(X)
        return X * (torch.rand_like(X) >= self.p) / (1 - self.p)


class MLP(nn.Sequential):
    """Multi-layer perceptron for tables: the network that ``module=None`` builds.

    Parameters
    ----------
    n_features, n_classes : int
        Sizes of input and output.
    hidden : int or tuple of int, default=(256, 256)
        Units of the hidden layers.
    dropout : float, default=0.25
        Share of the hidden units dropped in training.
    input_dropout : float, default=0.0
        Share of the inputs dropped in training. ``module=None`` takes what `auto_input_dropout`
        returns.
    """

    def __init__(
        self,
        n_features: int,
        n_classes: int,
        *,
        hidden=(256, 256),
        dropout=0.25,
        input_dropout=0.0,
    ):
        widths = [n_features, *np.atleast_1d(hidden).tolist()]
        layers = [Standardize(n_features)]
        if input_dropout:
            layers.append(UniformDropout(input_dropout))
        for fan_in, fan_out in pairwise(widths):
            layers += [nn.Linear(fan_in, fan_out), nn.ReLU(), UniformDropout(dropout)]
        super().__init__(*layers, nn.Linear(widths[-1], n_classes))
        self.input_dropout = input_dropout


def auto_input_dropout(X) -> float:
    """Return the share of inputs to drop: 0.1 from 30 columns on, 0.2 from 200; 0.5 for text.

    Of many columns the others tell a row as well, but a single odd value memorises it; of few,
    each may count. Text is a sparse matrix of 1,000 columns or more: rows are told by any half of
    their words.
    """
    if hasattr(X, "toarray") and X.shape[1] >= TEXT_COLUMNS:
        return TEXT_DROPOUT
    return next((share for least, share in INPUT_DROPOUTS.items() if X.shape[1] >= least), 0.0)
