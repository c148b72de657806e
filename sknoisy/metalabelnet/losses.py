"""The equations of MetaLabelNet's labels: losses of given, generated and trusted ones.

Source: G. Algan, I. Ulusoy, "MetaLabelNet: Learning to Generate Soft-Labels from Noisy-Labels",
IEEE TIP 31, 2022, arXiv 2103.10869, and the authors' published code.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import log_softmax

from sknoisy.functional import BatchLabels, at_least_float32, weighted_mean


def given_labels_loss(logits: Tensor, labels: BatchLabels, *, count=None) -> Tensor:
    """Cross-entropy to the labels (B, C), mean over the rows that have one: others are zeros.

    ``count(n_labels)`` returns how many labels the mean is over, where that is not this batch's.
    """
    losses = -(labels.targets * log_softmax(at_least_float32(logits), dim=1)).sum(dim=1)
    total = losses.sum() if labels.weights is None else (labels.weights * losses).sum()
    n_labels = labels.targets.sum()
    return total / (n_labels.clamp_min(1) if count is None else count(n_labels))


def generated_labels_loss(
    logits: Tensor, labels: BatchLabels, *, entropy_weight: float, scale: float
) -> Tensor:
    """``KL(p || t) + gamma H(p)``, mean over rows, times `scale`; p and soft labels t (B, C).

    With gamma 1 the entropy cancels: what is left is the reverse cross-entropy -sum p log t.
    """
    log_p = log_softmax(at_least_float32(logits), dim=1)
    targets = labels.targets
    log_t = targets.clamp_min(torch.finfo(targets.dtype).tiny).log()
    losses = (log_p.exp() * ((1 - entropy_weight) * log_p - log_t)).sum(dim=1)
    return scale * weighted_mean(losses, labels.weights)


def with_trusted_rows(
    logits: Tensor,
    labels: BatchLabels,
    *,
    loss,
    n_trusted: int,
    trusted_weight: float,
    share: Callable[[], float] | None = None,
    class_weights: Tensor | None = None,
) -> Tensor:
    """`loss` of the batch, plus the weighted cross-entropy of the last `n_trusted` rows.

    Of these, each class counts by `class_weights` (C,). ``share()`` returns what they weigh more,
    where several processes have parts of unlike size of both.
    """
    n = len(logits) - n_trusted
    targets = labels.targets[n:]
    of_trusted = None if class_weights is None else targets @ class_weights
    trusted = given_labels_loss(logits[n:], BatchLabels(targets, of_trusted))
    return (
        loss(logits[:n], labels[:n])
        + trusted_weight * (1.0 if share is None else share()) * trusted
    )
