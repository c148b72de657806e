"""How long to train, and how long of it on the given labels: until memorisation sets in.

A label that the other rows cannot foretell has to be learned by heart, and from then on the loss
on rows held out rises. Their labels are as noisy as the others: no clean ones are needed. The
rule is early stopping's (L. Prechelt, "Early Stopping - But When?", 1998), used here not to end
the training but to begin the corrections.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from skorch import NeuralNet
from skorch.callbacks import EarlyStopping
from torch.utils.data import Subset

from sknoisy.functional import soft_cross_entropy
from sknoisy.targets import LabelCallback

HELD_OUT_ROWS = 10  # one row in so many
FEWEST_ROWS = 50  # fewer leave too few to hold out
PATIENT_STEPS = 110  # without a better loss, after which the search ends
PATIENT_EPOCHS = 5  # but at least
FEWEST_EPOCHS, MOST_EPOCHS, STEPS_A_CLASS = 50, 200, 100  # of a whole fit


class GivenLabels(LabelCallback):
    """Plain training: no label moves."""

    def loss_at(self, epoch):
        """Cross-entropy in every epoch."""
        return soft_cross_entropy

    def phase(self, epoch):
        """Return 'warmup': there is nothing else."""
        return "warmup"


def auto_max_epochs(steps_per_epoch: int, n_classes: int) -> int:
    """Return 50 epochs, or as many as hold 100 steps a class, but at most 200."""
    steps = STEPS_A_CLASS * n_classes
    return min(MOST_EPOCHS, max(FEWEST_EPOCHS, math.ceil(steps / steps_per_epoch)))


@dataclass
class Pilot:
    """What a method may ask about the training that is to come, before it begins.

    Parameters
    ----------
    make_net : callable
        Returns a new net, given its number of epochs, a label callback, other callbacks and a
        `train_split` for estimators that have none.
    X : array-like of shape (n_rows, ...) or CSR matrix
        The inputs.
    n_labels : int
        How many of the rows, the first ones, have a label.
    max_epochs : int
        Epochs of the whole fit.
    steps_per_epoch : int
        Batches in an epoch.
    found : int or None, default=None
        What `epochs_before_memorisation` returned, here or in an interrupted fit.
    """

    make_net: Callable[..., NeuralNet]
    X: object
    n_labels: int
    max_epochs: int
    steps_per_epoch: int
    found: int | None = None

    def epochs_of(self, steps: int) -> int:
        """Return how many epochs hold about so many steps, at least 1."""
        return max(1, round(steps / self.steps_per_epoch))

    def epochs_before_memorisation(self) -> int:
        """Return the epoch of the lowest loss on held-out rows, at most half of all.

        A net of its own is trained for it, until the loss has not fallen for 110 steps and 5
        epochs. Fewer than 50 rows leave too few to hold out: then it is the epochs of 20 steps.
        """
        if self.found is None:
            self.found = self._search(self.max_epochs // 2)
        return self.found

    def _search(self, limit):
        if limit <= 1:
            return 1
        if self.n_labels < FEWEST_ROWS:
            return min(self.epochs_of(20), limit)
        patience = max(PATIENT_EPOCHS, math.ceil(PATIENT_STEPS / self.steps_per_epoch))
        stop = ("stop", EarlyStopping(patience=patience))
        net = self.make_net(limit, GivenLabels(), [stop], self.hold_out)
        net.fit(self.X, np.arange(self.X.shape[0]))
        if net.interrupted_:  # nothing is fitted yet that could be kept
            raise KeyboardInterrupt
        losses = np.array(net.history[:, "valid_loss"], dtype=float)
        return 1 + int(np.nan_to_num(losses, nan=np.inf, posinf=np.inf).argmin())

    def hold_out(self, dataset, y=None):
        """Split a tenth of the labelled rows off, drawn by numpy's global generator."""
        order = np.random.permutation(self.n_labels)  # noqa: NPY002 - the one that fit seeds
        n_held_out = self.n_labels // HELD_OUT_ROWS
        return Subset(dataset, order[n_held_out:]), Subset(dataset, order[:n_held_out])
