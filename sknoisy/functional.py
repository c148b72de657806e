"""The equations that two or more methods share: tensors in, tensors out."""

import torch
from torch import Tensor
from torch.nn.functional import log_softmax


def soft_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy of logits (B, C) against soft labels (B, C), in nats."""
    return -(targets * log_softmax(logits.float(), dim=1)).sum(dim=1).mean()


def blend(old: Tensor, new: Tensor, momentum: float) -> Tensor:
    """Exponential moving average: keep the share `momentum` of `old`."""
    return momentum * old + (1 - momentum) * new


def at_least_float32(X: Tensor) -> Tensor:
    """Return half-precision numbers as float32, others as they are."""
    return X.float() if X.dtype in (torch.float16, torch.bfloat16) else X
