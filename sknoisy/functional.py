"""The equations that two or more methods share: tensors in, tensors out."""

import torch
from torch import Tensor
from torch.nn.functional import log_softmax


def weighted_mean(values: Tensor, weights: Tensor | None = None) -> Tensor:
    """Mean over rows of values (B,) times weights (B,), which are 1 on average over all rows."""
    return values.mean() if weights is None else (weights * values).mean()


def soft_cross_entropy(logits: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
    """Mean cross-entropy of logits (B, C) against soft labels (B, C), in nats; weights (B,)."""
    log_p = log_softmax(at_least_float32(logits), dim=1)
    return weighted_mean(-(targets * log_p).sum(dim=1), weights)


def blend(old: Tensor, new: Tensor, momentum: float) -> Tensor:
    """Exponential moving average: keep the share `momentum` of `old`."""
    return momentum * old + (1 - momentum) * new


def at_least_float32(X: Tensor) -> Tensor:
    """Return half-precision numbers as float32, others as they are."""
    return X.float() if X.dtype in (torch.float16, torch.bfloat16) else X
