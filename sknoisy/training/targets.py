"""The table of soft labels: one criterion reads it, one callback writes it."""

import torch
from torch import Tensor, nn

from sknoisy.functional import soft_cross_entropy


class SoftTargetLoss(nn.Module):
    """Loss against a table of soft labels, looked up by row number.

    Parameters
    ----------
    targets : Tensor of shape (n_samples, n_classes)
        The soft labels at the start, usually one-hot. A buffer: it follows the
        net's device and is saved with it.
    weights : Tensor of shape (n_samples,) or None, default=None
        What each row's loss is multiplied by, 1 on average.

    Attributes
    ----------
    given : Tensor of shape (n_samples,)
        The class numbers that `targets` began with.
    loss : callable
        ``loss(logits, targets, weights) -> scalar`` of the current phase; the callback
        sets it at the start of each epoch. Held-out batches are always scored
        by plain cross-entropy, so that epochs of all phases compare.
    """

    def __init__(self, targets: Tensor, weights: Tensor | None = None):
        super().__init__()
        self.register_buffer("targets", targets)
        self.register_buffer("weights", weights)
        self.register_buffer("given", targets.argmax(dim=1))
        self.loss = soft_cross_entropy

    def forward(self, logits: Tensor, rows: Tensor | list[Tensor]) -> Tensor:
        """Return the loss of logits (B, C) for the rows (B,) of the table.

        A mixed batch brings a pair instead: the rows (M,) that went into it, and the matrix
        (B, M) that mixed them, which mixes their soft labels too.
        """
        loss = self.loss if self.training else soft_cross_entropy
        if isinstance(rows, Tensor):
            return loss(logits, self.targets[rows], self.weights_of(rows))
        rows, matrix = rows
        matrix, weights = matrix.to(self.targets.dtype), self.weights_of(rows)
        mixed_weights = None if weights is None else matrix @ weights
        return loss(logits, matrix @ self.targets[rows], mixed_weights)

    def weights_of(self, rows: Tensor) -> Tensor | None:
        """Return the weights (B,) of the rows, or None where all weigh the same."""
        return None if self.weights is None else self.weights[rows]

    def put_back(self, share: float, rows: Tensor) -> None:
        """Give rows their given label again, but for the `share` whose is least probable now."""
        if share >= 1:
            return
        order = rows[self.targets[rows, self.given[rows]].argsort()]
        weights = self.weights_of(order)
        weights = torch.ones_like(self.targets[order, 0]) if weights is None else weights
        is_beyond = weights.cumsum(dim=0) > share * weights.sum()
        put_back = order[is_beyond | (weights == 0)]
        self.targets[put_back] = 0
        self.targets[put_back, self.given[put_back]] = 1

    def lengthen(self, targets: Tensor) -> None:
        """Append rows to the table, each of weight 1."""
        self.targets = torch.cat([self.targets, targets])
        if self.weights is not None:
            self.weights = torch.cat([self.weights, self.weights.new_ones(len(targets))])
