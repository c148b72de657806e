"""MetaLabelNet: soft labels from a network that a small trusted set teaches.

Source: G. Algan, I. Ulusoy, "MetaLabelNet: Learning to Generate Soft-Labels from Noisy-Labels",
IEEE TIP 31, 2022, arXiv 2103.10869, and the authors' published code.
"""

import torch
from torch import Tensor
from torch.nn.functional import log_softmax

from sknoisy.targets import LabelCallback

META_WEIGHT_DECAY = 1e-4  # of the label network, as in the authors' code
TRUSTED_SHARE = 8  # one trusted row beside so many of the batch: the step's price stays near 3.5


def given_labels_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy to the labels (B, C), mean over the rows that have one: others are zeros."""
    total = -(targets * log_softmax(logits.float(), dim=1)).sum()
    return total / targets.sum().clamp_min(1)


def generated_labels_loss(
    logits: Tensor, targets: Tensor, entropy_weight: float, scale: float
) -> Tensor:
    """``KL(p || t) + gamma H(p)``, mean over rows, times `scale`; both arguments (B, C).

    With gamma 1 the entropy cancels: what is left is the reverse cross-entropy -sum p log t.
    """
    log_p = log_softmax(logits.float(), dim=1)
    log_t = targets.clamp_min(torch.finfo(targets.dtype).tiny).log()
    return scale * (log_p.exp() * ((1 - entropy_weight) * log_p - log_t)).sum(dim=1).mean()


def with_trusted_rows(
    logits: Tensor, targets: Tensor, loss, n_trusted: int, trusted_weight: float
) -> Tensor:
    """`loss` of the batch, plus the weighted cross-entropy of the last `n_trusted` rows."""
    n = len(logits) - n_trusted
    trusted = given_labels_loss(logits[n:], targets[n:])
    return loss(logits[:n], targets[:n]) + trusted_weight * trusted


class GenerateLabels(LabelCallback):
    """Write the soft labels that a label network generates, taught by trusted rows.

    Parameters
    ----------
    trusted : TrustedRows or None
        Inputs and class numbers; None picks the rows of lowest loss after the warm-up.
    n_labels : int
        Rows of the table that have a given label.
    warmup_epochs, meta_lr, virtual_lr, entropy_weight, meta_batch_size, trusted_weight, \
reduction, feature_layer, restore_best, hypergradient
        As in `MetaLabelNetClassifier`, each a number.
    """

    def __init__(
        self,
        trusted=None,
        n_labels=None,
        warmup_epochs=30,
        meta_lr=1e-2,
        virtual_lr=1.0,
        entropy_weight=1.0,
        meta_batch_size=128,
        trusted_weight=1.0,
        reduction="batchmean",
        feature_layer=None,
        restore_best=False,
        hypergradient="auto",
    ):
        self.trusted = trusted
        self.n_labels = n_labels
        self.warmup_epochs = warmup_epochs
        self.meta_lr = meta_lr
        self.virtual_lr = virtual_lr
        self.entropy_weight = entropy_weight
        self.meta_batch_size = meta_batch_size
        self.trusted_weight = trusted_weight
        self.reduction = reduction
        self.feature_layer = feature_layer
        self.restore_best = restore_best
        self.hypergradient = hypergradient
