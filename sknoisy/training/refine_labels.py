"""Labels that are refined: pulled towards what the network predicts, epoch by epoch.

Source: W. Zhang, D. Cheng, G. Lu, B. Zhou, J. Li, S. Zhang, "Efficient Adaptive Label Refinement
for Label Noise Learning", arXiv 2502.00386, 2025.
"""

from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import log_softmax

from sknoisy.functional import (
    BatchLabels,
    at_least_float32,
    blend,
    soft_cross_entropy,
    weighted_mean,
)
from sknoisy.training.label_callback import LabelCallback, ranks_of
from sknoisy.training.refinement import UntilSettled


def refinement_loss(logits: Tensor, labels: BatchLabels, *, entropy_weight: float) -> Tensor:
    """Cross-entropy to soft labels plus `entropy_weight` times the prediction's entropy.

    ``mean_i -sum_c (T_ic + lam p_ic) log p_ic``, in nats, times the rows' weights; logits and
    targets (B, C). The gradient runs through p alone. Minimizing the entropy hardens a label once
    the network is more confident in it than its mean log-probability, and leaves ambiguous rows
    soft.
    """
    log_p = log_softmax(at_least_float32(logits), dim=1)
    losses = -((labels.targets + entropy_weight * log_p.exp()) * log_p).sum(dim=1)
    return weighted_mean(losses, labels.weights)


def auto_momentum(refinement_epochs: int) -> float:
    """Return the momentum by which the epochs hold five half-lives of a given label, 0.7 to 0.9.

    Below 0.7 the entropy term outweighs the labels, and predictions drift; above 0.9 labels that
    are memorized meanwhile are corrected too late.
    """
    return min(0.9, max(0.7, 0.5 ** (5 / max(refinement_epochs, 1))))


class RefineLabels(LabelCallback):
    """Pull each row's soft label towards what the network now predicts.

    For use in a skorch net whose criterion is a `SoftTargetLoss` and whose y are row numbers.

    Parameters
    ----------
    momentum : float, default=0.9
        Weight of the old soft label at each update.
    entropy_weight : float, default=0.5
        Weight of the prediction's entropy in the loss after the warm-up.
    warmup_epochs : int, default=2
        Epochs of cross-entropy on the given labels before the first update.
    settles_after : int or None, default=None
        Epochs after the warm-up from which on training ends once labels have settled; None never.
    """

    def __init__(self, momentum=0.9, entropy_weight=0.5, warmup_epochs=2, settles_after=None):
        self.momentum = momentum
        self.entropy_weight = entropy_weight
        self.warmup_epochs = warmup_epochs
        self.settles_after = settles_after

    def with_companions(self):
        """Return this callback, and the one that ends training, if any."""
        companions = super().with_companions()
        if self.settles_after is not None:
            companions.append(("sknoisy_settled", UntilSettled(self.settles_after)))
        return companions

    def loss_at(self, epoch):
        """Cross-entropy in the warm-up, then with the entropy term."""
        if epoch <= self.warmup_epochs:
            return soft_cross_entropy
        return partial(refinement_loss, entropy_weight=self.entropy_weight)

    def can_flip(self, epoch):
        """Return whether the given label's weight is down to a half."""
        return epoch > self.warmup_epochs and self.momentum ** (epoch - self.warmup_epochs) <= 0.5

    def start_epoch(self, net, epoch):
        """Count the epoch's predictions anew."""
        self.counted_ = None

    @torch.no_grad()
    def before_loss(self, net, logits, rows):
        """Blend the predictions (B, C) of the rows (B,) into their soft labels."""
        criterion = net.criterion_
        self.count_predictions(net, logits, rows)
        if len(net.history) > self.warmup_epochs:
            predicted = criterion.as_labels(logits).softmax(dim=1)
            self.write(net, rows, blend(criterion.targets[rows], predicted, self.momentum))

    def count_predictions(self, net, logits, rows):
        """Count how often each class is predicted for rows (B,), where that is read."""
        if net.criterion_.class_prior is not None and len(net.history) >= self.warmup_epochs:
            found, ranks = net.criterion_.count_predictions(logits.detach(), rows), ranks_of(net)
            if ranks.size > 1:
                found = found * ranks.counts(net.n_rows_)
            # Added up at once: small tensors that are kept between steps leave holes in the memory
            # that large ones do not fit into, together twice the size of X.
            self.counted_ = found if self.counted_ is None else self.counted_.add_(found)

    def end_epoch(self, net, epoch):
        """Tell the criterion how often each class was predicted."""
        if self.counted_ is not None:
            total = self.counted_
            ranks_of(net).sum_([total])
            net.criterion_.predicted = total / total.sum() if total.sum() > 0 else None
