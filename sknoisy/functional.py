"""The labels of a batch, and the equations common to several methods: tensors in, tensors out."""

import torch
from torch import Tensor
from torch.nn.functional import log_softmax


class BatchLabels:
    """The labels of a batch, as a loss reads them.

    Parameters
    ----------
    targets : Tensor of shape (B, C)
        Soft labels; mixed where the inputs are.
    weights : Tensor of shape (B,) or None, default=None
        What each row's loss is multiplied by.
    given : Tensor of shape (B, C), callable that returns it, or None, default=None
        The labels of `fit`, one-hot, mixed where the inputs are; a callable is called by the losses
        that read them alone.
    """

    def __init__(self, targets: Tensor, weights: Tensor | None = None, given=None):
        self.targets = targets
        self.weights = weights
        self._given = given

    @property
    def given(self) -> Tensor:
        """The given labels (B, C), one-hot or mixed; zeros for rows without one."""
        return self._given() if callable(self._given) else self._given

    def __getitem__(self, rows: slice) -> "BatchLabels":
        """Return the labels of some of the rows."""
        weights = None if self.weights is None else self.weights[rows]
        return BatchLabels(self.targets[rows], weights, lambda: self.given[rows])


def weighted_mean(values: Tensor, weights: Tensor | None = None) -> Tensor:
    """Mean over rows of values (B,) times weights (B,), which are 1 on average over all rows."""
    return values.mean() if weights is None else (weights * values).mean()


def soft_cross_entropy(logits: Tensor, labels: BatchLabels) -> Tensor:
    """Mean cross-entropy of logits (B, C) against soft labels, in nats."""
    log_p = log_softmax(at_least_float32(logits), dim=1)
    return weighted_mean(-(labels.targets * log_p).sum(dim=1), labels.weights)


def blend(old: Tensor, new: Tensor, momentum: float) -> Tensor:
    """Exponential moving average: keep the fraction `momentum` of `old`."""
    return momentum * old + (1 - momentum) * new


def shift_prior(logits: Tensor, predicted: Tensor, prior: Tensor) -> Tensor:
    """Shift logits (B, C) from how often classes (C,) are predicted to their priors (C,).

    Probabilities times ``prior_c / predicted_c``, normalized: M. Saerens, P. Latinne,
    C. Decaestecker, Neural Computation 14, 2002.
    """
    return logits + (prior / predicted.clamp_min(1e-6)).clamp_min(1e-6).log().to(logits)


def at_least_float32(X: Tensor) -> Tensor:
    """Return half-precision numbers as float32, others as they are."""
    return X.float() if X.dtype in (torch.float16, torch.bfloat16) else X
