"""The first layer for text: reads the numbers of a row that are not zero, and no others."""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import embedding_bag

from sknoisy.networks.standardize import Standardize


class SparseLinear(nn.Module):
    """Scale, clip and drop inputs and apply a linear layer, for sparse rows.

    Columns are scaled as `Standardize` does it, and not shifted.
    Only some columns have weights, those that occur in training; others do not change the output.
    The gradient of the weights is sparse where the batch is: it has the rows of the columns that
    occur in the batch. A dense batch gives the same output, and a dense gradient.

    Parameters
    ----------
    columns : array-like of int of shape (n_columns,)
        The columns that have weights, in ascending order.
    n_outputs : int
        Numbers a row that the layer returns.
    dropout : nn.Module
        Applied to the numbers that are not zero, or to a dense batch.

    Attributes
    ----------
    weight : Parameter of shape (n_columns, n_outputs)
        A row a column: the gradient of a batch touches whole rows.
    """

    def __init__(self, columns, n_outputs: int, dropout: nn.Module):
        super().__init__()
        self.register_buffer("columns", torch.as_tensor(columns, dtype=torch.int64))
        self.register_buffer("scale", torch.ones(len(self.columns)))
        self.register_buffer("limit", torch.tensor(torch.inf))
        self.dropout = dropout
        self.weight = nn.Parameter(torch.empty(len(self.columns), n_outputs))
        self.bias = nn.Parameter(torch.empty(n_outputs))
        limit = len(self.columns) ** -0.5  # as nn.Linear begins
        nn.init.uniform_(self.weight, -limit, limit)
        nn.init.uniform_(self.bias, -limit, limit)

    def fit(self, X) -> "SparseLinear":
        """Compute the scales of the columns from X (n_samples, n_features), CSR or an array."""
        known = X[:, self.columns.numpy(force=True)]
        if hasattr(known, "sum_duplicates"):
            known.sum_duplicates()  # squares are those of sums
        fitted = Standardize(len(self.columns)).fit(known)
        self.scale.copy_(fitted.scale)
        self.limit.copy_(fitted.limit)
        return self

    def forward(self, X: Tensor) -> Tensor:
        """Return the output (B, n_outputs) for X (B, n_features), as sparse COO or dense."""
        if not X.is_sparse:
            known = (X[:, self.columns] / self.scale).clamp(-self.limit, self.limit)
            return torch.addmm(self.bias, self.dropout(known), self.weight)
        X = X.coalesce()
        rows, columns = X.indices()
        places = torch.searchsorted(self.columns, columns).clamp_max(len(self.columns) - 1)
        values = (X.values() / self.scale[places]).clamp(-self.limit, self.limit)
        values = values.where(self.columns[places] == columns, 0)
        first = torch.searchsorted(rows, torch.arange(len(X), device=X.device))
        return self.bias + embedding_bag(
            places,
            self.weight,
            first,
            mode="sum",
            per_sample_weights=self.dropout(values),
            sparse=True,
        )


def has_sparse_layer(network: nn.Module) -> bool:
    """Return whether the network reads sparse batches."""
    return any(isinstance(layer, SparseLinear) for layer in network.modules())


def occurring_columns(X) -> np.ndarray:
    """Return the columns of a CSR matrix that hold a number other than 0, in ascending order."""
    return np.unique(X.indices[X.data != 0]).astype(np.int64)
