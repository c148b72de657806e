"""How long to train, and how long of it on the given labels: until memorization sets in.

Labels that do not generalize have to be memorized, and from then on the loss on held-out rows
rises. Their labels are as noisy as the others: no clean ones are needed. The rule is that of early
stopping (L. Prechelt, "Early Stopping - But When?", 1998), used here not to end the training but
to begin the label correction.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from skorch.callbacks import EarlyStopping
from skorch.utils import to_device
from torch import Tensor
from torch.utils.data import Subset

from sknoisy.functional import at_least_float32, soft_cross_entropy
from sknoisy.training.label_callback import LabelCallback
from sknoisy.training.recipe import NetRecipe
from sknoisy.training.seeds import MAX_SEED, seeded

HELD_OUT_ROWS = 10  # one row in so many
RELIABLE = 0.7  # 0.6 on CIFAR-10's human labels, 0.8 to 1 on digits with 20 to 80 % flipped
TOP_FRACTION = 0.1  # the fraction of rows whose classes are taken for known
FEWEST_ROWS = 50  # fewer leave too few to hold out
PATIENT_STEPS = 110  # without a better loss, after which the search ends
PATIENT_EPOCHS = 5  # but at least


class Memorization(NamedTuple):
    """What the warm-up search found.

    Attributes
    ----------
    begins : int
        The epoch after which the loss on held-out rows was lowest.
    halving_epochs : float or None
        Epochs from there in which the loss on the training rows falls to a half; infinity where
        it does not, or where the search ended there; None where nothing was searched.
    reliability : float
        Agreement of the predictions for held-out rows with the given labels, divided by the
        confidence that a tenth of them exceed. That is about 1 where each row's class is known and
        only its label uncertain, whatever the noise, and less where the class itself is.
    """

    begins: int
    halving_epochs: float | None = None
    reliability: float = 1.0

    @property
    def is_reliable(self) -> bool:
        """Whether predictions are more reliable than labels."""
        return self.reliability >= RELIABLE


class GivenLabels(LabelCallback):
    """Plain training: no label moves. Records how held-out rows are predicted."""

    def loss_at(self, epoch):
        """Cross-entropy in every epoch."""
        return soft_cross_entropy

    def phase(self, epoch):
        """Return 'warmup': there is nothing else."""
        return "warmup"

    def start_epoch(self, net, epoch):
        """Forget the predictions of the last epoch."""
        self.seen_ = []

    @torch.no_grad()
    def on_batch_end(self, net, batch, training=False, y_pred=None, **kwargs):
        """Keep the confidence of predictions for held-out rows, and whether they agree."""
        if training:
            return
        rows = to_device(batch[1], net.device)
        confidence, predicted = at_least_float32(y_pred).softmax(dim=1).max(dim=1)
        hits = (predicted == net.criterion_.given[rows]).to(confidence)
        weights = net.criterion_.weights_of(rows)
        weights = torch.ones_like(confidence) if weights is None else weights.to(confidence)
        self.seen_.append(torch.stack([confidence, hits, weights]).cpu())

    def end_epoch(self, net, epoch):
        """Record how reliable the predictions were."""
        net.history.record("reliability", reliability(*torch.cat(self.seen_, dim=1)))


def reliability(confidence: Tensor, hits: Tensor, weights: Tensor) -> float:
    """Return the mean of hits (n,), over the confidence (n,) that a tenth of the rows exceed.

    Rows count as far as they weigh (n,); where none does it is 1.
    """
    counted = weights > 0
    if not counted.any():
        return 1.0
    high = np.quantile(confidence[counted], 1 - TOP_FRACTION)
    return float((hits * weights).sum() / weights.sum() / high)


def halving_epochs(losses: Sequence[float]) -> float:
    """Return the epochs in which a loss falls to a half, by its first and last value."""
    first, last = losses[0], losses[-1]
    if not 0 < last < first:  # also where one is not a number
        return math.inf
    return (len(losses) - 1) * math.log(2) / math.log(first / last)


def patience_of(recipe: NetRecipe) -> int:
    """Return the epochs without a better loss after which a search ends."""
    return max(PATIENT_EPOCHS, math.ceil(PATIENT_STEPS / recipe.steps_per_epoch))


@dataclass
class WarmupSearch:
    """The search for the epoch after which a network begins to memorize the given labels.

    Parameters
    ----------
    recipe : NetRecipe
        Of the fit that is to come.
    data : TrainingData
        What the fit trains on.
    train_split : callable or None
        The estimator's own; None holds a tenth of the labeled rows out.
    seed : int
        Of the fit; the search draws its own from it.
    found : Memorization or tuple of its values or None, default=None
        What the search found, here or in an interrupted fit.
    """

    recipe: NetRecipe
    data: object
    train_split: Callable | None
    seed: int
    found: tuple | None = None

    @property
    def max_epochs(self) -> int:
        """Epochs of the whole fit."""
        return self.recipe.max_epochs

    def epochs_of(self, steps: int) -> int:
        """Return how many epochs hold about so many steps, at least 1."""
        return max(1, round(steps / self.recipe.steps_per_epoch))

    def memorization(self) -> Memorization:
        """Return when memorization sets in, how fast, and what the network has learned by then.

        An auxiliary network is trained for it, until the loss on held-out rows has not fallen for
        110 steps and 5 epochs; at most half of all epochs. Fewer than 50 rows leave too few to
        hold out: then it begins after 20 steps.
        """
        if self.found is None:
            limit = self.max_epochs // 2
            if limit > 1 and len(self.data.labels) >= FEWEST_ROWS:
                self.found = self._train(limit)
            else:
                self.found = Memorization(max(1, min(self.epochs_of(20), limit)))
        return Memorization(*self.found)

    def _train(self, limit):
        seed = np.random.RandomState(self.seed).randint(MAX_SEED)  # the fit's own draws stay
        with seeded(seed, self.recipe.device):
            net = self.recipe.search_net(
                self.recipe.criterion(self.data.labels, self.data.weights),
                [
                    ("stop", EarlyStopping(patience=patience_of(self.recipe))),
                    *self.recipe.augment(),
                    *GivenLabels().with_companions(),
                ],
                max_epochs=limit,
                train_split=self.train_split or self.hold_out,
            )
            net.fit(self.data.X, np.arange(self.data.X.shape[0]))
        if net.interrupted_:  # nothing is fitted yet that could be kept
            raise KeyboardInterrupt
        held_out = np.array(net.history[:, "valid_loss"], dtype=float)
        best = int(np.nan_to_num(held_out, nan=np.inf, posinf=np.inf).argmin())
        halving = halving_epochs(net.history[best:, "train_loss"])
        return Memorization(best + 1, halving, net.history[best, "reliability"])

    def hold_out(self, dataset, y=None):
        """Split a tenth of the labeled rows off, by numpy's generator, which the search seeds."""
        order = np.random.permutation(len(self.data.labels))  # noqa: NPY002 - augmentations draw on
        n_held_out = len(self.data.labels) // HELD_OUT_ROWS
        return Subset(dataset, order[n_held_out:]), Subset(dataset, order[:n_held_out])
