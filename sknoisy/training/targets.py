"""The table of soft labels: one criterion reads it, one callback writes it."""

import torch
from torch import Tensor, nn

from sknoisy.functional import (
    BatchLabels,
    at_least_float32,
    shift_prior,
    soft_cross_entropy,
)

ROWS_AT_ONCE = 4096  # of the table: a copy of all would be another table


class SoftTargetLoss(nn.Module):
    """Loss against a table of soft labels, looked up by row number.

    Parameters
    ----------
    targets : Tensor of shape (n_samples, n_classes)
        The soft labels at the start, usually one-hot. A buffer: it follows the
        net's device and is saved with it.
    weights : Tensor of shape (n_samples,) or None, default=None
        What each row's loss is multiplied by, 1 on average.
    class_weights : Tensor of shape (n_classes,) or None, default=None
        The factor of each class in these weights.
    class_prior : Tensor of shape (n_classes,) or None, default=None
        Estimated fraction of rows of each class: no class falls below it when predictions correct
        labels.
    given : Tensor of shape (n_samples,) or None, default=None
        The class numbers of the rows, where `targets` is not one-hot: rows of zeros have no label.
    is_written : bool, default=True
        Whether labels will change; else the given ones need no memory of their own.

    Attributes
    ----------
    given : Tensor of shape (n_samples,)
        The class numbers that `targets` began with.
    given_proba : Tensor of shape (n_samples, n_classes) or None
        The soft labels that `targets` began with; None where they were one-hot.
    predicted : Tensor of shape (n_classes,) or None
        How often each class was predicted for the rows, of which it is a fraction; a callback
        that corrects labels by predictions writes it.
    loss : callable
        ``loss(logits, labels) -> scalar`` of the current phase, with the `BatchLabels` of the
        batch; the callback sets it at the start of each epoch. Held-out batches are always scored
        by plain cross-entropy, so that epochs of all phases compare.
    share : float
        What the loss of a training batch is multiplied by: below 1 where it is a part of a batch
        that several processes share.
    """

    def __init__(
        self,
        targets: Tensor,
        weights: Tensor | None = None,
        class_weights: Tensor | None = None,
        class_prior: Tensor | None = None,
        given: Tensor | None = None,
        *,
        is_written: bool = True,
    ):
        super().__init__()
        self.register_buffer("targets", targets)
        self.register_buffer("weights", weights)
        self.register_buffer("class_weights", class_weights)
        self.register_buffer("class_prior", class_prior)
        # None at first: a state dict of then could not be loaded later.
        self.register_buffer("predicted", None, persistent=False)
        self.register_buffer("given", targets.argmax(dim=1) if given is None else given)
        given_proba = targets.clone() if is_written else targets
        self.register_buffer("given_proba", None if given is None else given_proba)
        self.loss = soft_cross_entropy
        self.share = 1.0

    def __getstate__(self):
        """Return what a pickle holds: not the loss, which may be a closure."""
        return {**vars(self), "loss": soft_cross_entropy}

    def forward(self, logits: Tensor, rows: Tensor | list[Tensor]) -> Tensor:
        """Return the loss of logits (B, C) for the rows (B,) of the table.

        A mixed batch brings a pair instead: the rows (M,) that went into it, and the matrix
        (B, M) that mixed them, which mixes their labels and weights too. A held-out row that is
        in no table brings its class number k, as -1 - k.
        """
        if self.training:
            return self.loss(logits, self.labels_of(rows)) * self.share
        return soft_cross_entropy(logits, self.held_out_labels(rows))

    def labels_of(self, rows: Tensor | list[Tensor]) -> BatchLabels:
        """Return the labels of a batch, by its rows (B,) or by a pair of rows and a matrix."""
        if isinstance(rows, Tensor):
            return BatchLabels(
                self.targets[rows], self.weights_of(rows), lambda: self.as_given(rows)
            )
        rows, matrix = rows
        matrix, weights = matrix.to(self.targets.dtype), self.weights_of(rows)
        return BatchLabels(
            matrix @ self.targets[rows],
            None if weights is None else matrix @ weights,
            lambda: matrix @ self.as_given(rows),
        )

    def held_out_labels(self, rows: Tensor) -> BatchLabels:
        """Return the labels of held-out rows (B,), some of which may be in no table."""
        targets = self._with_foreign(self.targets[rows.clamp_min(0)], rows)
        return BatchLabels(targets, self.held_out_weights(rows), lambda: self.as_given(rows))

    def held_out_weights(self, rows: Tensor) -> Tensor | None:
        """Return the weights (B,) of such rows, or None where all weigh the same."""
        weights = self.weights_of(rows.clamp_min(0))
        return None if weights is None else weights.where(rows >= 0, weights.new_ones(()))

    def _with_foreign(self, labels, rows):
        """Put the labels of rows (B,) that are in no table into those (B, C) of all."""
        is_foreign = (rows < 0)[:, None]
        labels.masked_fill_(is_foreign, 0)
        return labels.scatter_add_(1, (-1 - rows).clamp_min(0)[:, None], is_foreign.to(labels))

    def weights_of(self, rows: Tensor) -> Tensor | None:
        """Return the weights (B,) of the rows, or None where all weigh the same."""
        return None if self.weights is None else self.weights[rows]

    def as_given(self, rows: Tensor) -> Tensor:
        """Return the labels (B, C) of the rows as they were given; zeros for rows without one."""
        is_given = (rows >= 0) & (rows < len(self.given))
        known = rows.where(is_given, 0)
        if self.given_proba is None:
            table = self.targets.new_zeros(len(rows), self.targets.shape[1])
            table.scatter_(1, self.given[known][:, None], is_given[:, None].to(table.dtype))
        else:
            table = self.given_proba[known] * is_given[:, None]
        return self._with_foreign(table, rows)

    def has_label(self, rows: Tensor) -> Tensor:
        """Return whether each of the rows (B,) was given a label."""
        is_given = rows < len(self.given)
        if self.given_proba is None:
            return is_given
        return is_given & (self.given_proba[rows.where(is_given, 0)] > 0).any(dim=1)

    def is_labeled(self) -> Tensor:
        """Return which of the rows (n,) that `fit` was given have a label."""
        return self.has_label(torch.arange(len(self.given), device=self.given.device))

    def count_given(self, counted: Tensor) -> Tensor:
        """Return how often each class (C,) was given, where rows (n,) count by `counted`."""
        if self.given_proba is not None:
            return counted @ self.given_proba
        return counted.new_zeros(self.targets.shape[1]).index_add(0, self.given, counted)

    def weigh_unlabeled(self) -> None:
        """Let rows that have no label weigh 1, and those that have one 1 on average."""
        is_labeled = self.is_labeled()
        if not is_labeled.all():
            self.weights = (self.weights * is_labeled.to(self.weights).mean()).where(is_labeled, 1)

    def sample_weights_of(self, rows: Tensor) -> Tensor:
        """Return the weights (B,) of given rows, without the factors of their classes."""
        weights = self.weights_of(rows)
        if weights is None:
            return torch.ones_like(self.targets[rows, 0])
        if self.class_weights is None:
            return weights
        return weights / self.class_weights.where(self.class_weights > 0, 1)[self.given[rows]]

    def count_predictions(self, logits: Tensor, rows: Tensor) -> Tensor:
        """Return how often each class (C,) is predicted for rows (B,), counted as they weigh."""
        proba = at_least_float32(logits).softmax(dim=1)
        if self.weights is None:
            return proba.sum(dim=0)
        return self.sample_weights_of(rows).to(proba) @ proba

    def as_labels(self, logits: Tensor) -> Tensor:
        """Return logits (B, C) as they judge and correct labels.

        No class becomes rarer than its prior; where class weights make one more frequent, it
        becomes no more frequent either: they act on the loss alone.
        """
        logits = at_least_float32(logits)
        if self.class_prior is None or self.predicted is None:
            return logits
        if self.class_weights is None:
            prior = torch.maximum(self.class_prior, self.predicted)
        else:  # what weighs nothing is not aimed at
            prior = self.class_prior.where(self.class_weights > 0, self.predicted)
        return shift_prior(logits, self.predicted, prior)

    def lost_classes(self) -> list[int]:
        """Return the classes with given labels of positive weight that no soft label favors."""
        counts = self.is_labeled()
        if self.weights is not None:
            counts = counts & (self.weights[: len(self.given)] > 0)
        given = self.given[counts]
        kept = self.targets[: len(self.given)].argmax(dim=1).unique().tolist()
        return [label for label in given.unique().tolist() if label not in kept]

    def to_revert(self, kept: float, rows: Tensor) -> Tensor:
        """Return those of rows (n,) beyond the fraction `kept` whose given label fits least."""
        if kept >= 1:
            return rows[:0]
        if self.given_proba is None:
            fits = self.targets[rows, self.given[rows]]
        else:
            parts = rows.split(ROWS_AT_ONCE)
            fits = torch.cat([(self.targets[r] * self.as_given(r)).sum(dim=1) for r in parts])
        order = rows[fits.argsort()]
        weights = self.sample_weights_of(order)
        is_beyond = weights.cumsum(dim=0) > kept * weights.sum()
        return order[is_beyond | (weights == 0)]

    def revert(self, rows: Tensor) -> None:
        """Give rows (n,) their given label again."""
        for part in rows.split(ROWS_AT_ONCE):
            self.targets[part] = self.as_given(part)

    def lengthen(self, n_rows: int) -> None:
        """Append rows of zeros to the table, each of weight 1; without a copy where it has room."""
        table = self.targets
        n, n_classes = len(table) + n_rows, table.shape[1]
        end = table.storage_offset() + n * n_classes
        if table.untyped_storage().nbytes() >= end * table.itemsize:
            self.targets = table.as_strided((n, n_classes), (n_classes, 1))
        else:
            self.targets = torch.cat([table, table.new_zeros(n_rows, n_classes)])
        if self.weights is not None:
            self.weights = torch.cat([self.weights, self.weights.new_ones(n_rows)])

    def forget(self) -> None:
        """Free the memory of the table, which nothing reads again."""
        self.targets, self.given_proba = self.targets.new_empty(0, self.targets.shape[1]), None
