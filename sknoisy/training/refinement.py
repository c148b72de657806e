"""How long labels are refined where the number of epochs is 'auto'."""

import math
from dataclasses import dataclass

from skorch.callbacks import Callback

MOST_EPOCHS = 100
REFINED_EPOCHS, STEPS_A_CLASS = 15, 30  # the longer of the two
RARE_STEPS = 1000  # that a rare class gets at most: many rows have as many in the epochs above
# Labels that are wrong in pairs take three times as long to correct as random ones. Two classes
# gain nothing by more epochs, and where labels cannot be learned they never settle.
SETTLING_STEPS_A_CLASS = 80
SETTLED = 0.005  # fraction of the labels
SETTLED_EPOCHS = 10  # in 5 also labels that go on to change, slowly, move as little


@dataclass(frozen=True)
class Refinement:
    """The numbers of epochs after a warm-up.

    Attributes
    ----------
    least : int
        15, or as many as hold 30 steps a class, but at most 100. That is 30 batches of rows a class
        if all are as frequent. So many also of the rarest class: it is learned late, and else
        lost. But for it no more than 1,000 steps.
    most : int
        As many as hold 80 steps for each class but one, but at most 100; never fewer than `least`.
    """

    least: int
    most: int

    @classmethod
    def auto(cls, steps_per_epoch: int, n_classes: int, rarest: float | None = None):
        """Return it for so many batches an epoch; `rarest` is a class's fraction of the rows."""
        steps = STEPS_A_CLASS * n_classes
        if rarest:
            steps = max(steps, min(STEPS_A_CLASS / rarest, RARE_STEPS))
        least = min(MOST_EPOCHS, max(REFINED_EPOCHS, math.ceil(steps / steps_per_epoch)))
        most = math.ceil(SETTLING_STEPS_A_CLASS * (n_classes - 1) / steps_per_epoch)
        return cls(least, max(least, min(MOST_EPOCHS, most)))


class UntilSettled(Callback):
    """End training once soft labels have settled.

    They have where the fraction of changed ones, which a label callback records, moved by less than
    half a percent in the last 10 epochs, all of them epochs in which labels could change.

    Parameters
    ----------
    least : int
        Epochs after the warm-up that are trained in any case.
    """

    def __init__(self, least):
        self.least = least

    def on_epoch_end(self, net, **kwargs):
        """Stop as skorch's own callbacks do."""
        labels, epoch = net.label_callback, len(net.history)
        if epoch < labels.warmup_epochs + self.least or not labels.can_flip(epoch - SETTLED_EPOCHS):
            return
        changed = net.history[-SETTLED_EPOCHS - 1 :, "labels_changed"]
        if max(changed) - min(changed) < SETTLED:
            raise KeyboardInterrupt
