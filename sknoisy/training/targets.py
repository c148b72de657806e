"""The table of soft labels: one criterion reads it, one callback writes it."""

import torch
from torch import Tensor, nn

from sknoisy.functional import BatchLabels, soft_cross_entropy


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
        ``loss(logits, labels) -> scalar`` of the current phase, with the `BatchLabels` of the
        batch; the callback sets it at the start of each epoch. Held-out batches are always scored
        by plain cross-entropy, so that epochs of all phases compare.
    """

    def __init__(self, targets: Tensor, weights: Tensor | None = None):
        super().__init__()
        self.register_buffer("targets", targets)
        self.register_buffer("weights", weights)
        self.register_buffer("given", targets.argmax(dim=1))
        self.loss = soft_cross_entropy

    def __getstate__(self):
        """Return what a pickle holds: not the loss, which may be a closure."""
        return {**vars(self), "loss": soft_cross_entropy}

    def forward(self, logits: Tensor, rows: Tensor | list[Tensor]) -> Tensor:
        """Return the loss of logits (B, C) for the rows (B,) of the table.

        A mixed batch brings a pair instead: the rows (M,) that went into it, and the matrix
        (B, M) that mixed them, which mixes their labels and weights too.
        """
        loss = self.loss if self.training else soft_cross_entropy
        return loss(logits, self.labels_of(rows))

    def labels_of(self, rows: Tensor | list[Tensor]) -> BatchLabels:
        """Return the labels of a batch, by its rows (B,) or by a pair of rows and a matrix."""
        if isinstance(rows, Tensor):
            return BatchLabels(
                self.targets[rows], self.weights_of(rows), lambda: self.one_hot(rows)
            )
        rows, matrix = rows
        matrix, weights = matrix.to(self.targets.dtype), self.weights_of(rows)
        return BatchLabels(
            matrix @ self.targets[rows],
            None if weights is None else matrix @ weights,
            lambda: matrix @ self.one_hot(rows),
        )

    def weights_of(self, rows: Tensor) -> Tensor | None:
        """Return the weights (B,) of the rows, or None where all weigh the same."""
        return None if self.weights is None else self.weights[rows]

    def one_hot(self, rows: Tensor) -> Tensor:
        """Return the given labels (B, C) of the rows; zeros for rows appended without one."""
        is_given = rows < len(self.given)
        labels = self.given[rows.where(is_given, 0)]
        table = self.targets.new_zeros(len(rows), self.targets.shape[1])
        return table.scatter_(1, labels[:, None], is_given[:, None].to(table.dtype))

    def revert(self, kept: float, rows: Tensor) -> None:
        """Give rows their given label again, all but the fraction `kept` where it fits least."""
        if kept >= 1:
            return
        order = rows[self.targets[rows, self.given[rows]].argsort()]
        weights = self.weights_of(order)
        weights = torch.ones_like(self.targets[order, 0]) if weights is None else weights
        is_beyond = weights.cumsum(dim=0) > kept * weights.sum()
        reverted = order[is_beyond | (weights == 0)]
        self.targets[reverted] = 0
        self.targets[reverted, self.given[reverted]] = 1

    def lengthen(self, targets: Tensor) -> None:
        """Append rows to the table, each of weight 1."""
        self.targets = torch.cat([self.targets, targets])
        if self.weights is not None:
            self.weights = torch.cat([self.weights, self.weights.new_ones(len(targets))])
