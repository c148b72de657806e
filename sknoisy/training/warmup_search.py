"""How long to train on the given labels: until memorization sets in.

Labels that do not generalize have to be memorized, and from then on the loss on held-out rows
rises. Their labels are as noisy as the others: no clean ones are needed. The rule is that of early
stopping (L. Prechelt, "Early Stopping - But When?", 1998), used here not to end the training but
to begin the label correction.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from skorch.callbacks import EarlyStopping
from torch.utils.data import Subset

from sknoisy.functional import soft_cross_entropy
from sknoisy.training.label_callback import LabelCallback
from sknoisy.training.recipe import NetRecipe
from sknoisy.training.seeds import MAX_SEED, seeded

HELD_OUT_ROWS = 10  # one row in so many
FEWEST_ROWS = 50  # fewer leave too few to hold out
PATIENT_STEPS = 55  # without a better loss, after which the search ends
PATIENT_EPOCHS = 5  # but at least


class GivenLabels(LabelCallback):
    """Plain training: no label moves."""

    def loss_at(self, epoch):
        """Cross-entropy in every epoch."""
        return soft_cross_entropy

    def phase(self, epoch):
        """Return 'warmup': there is nothing else."""
        return "warmup"


def patience_of(recipe: NetRecipe) -> int:
    """Return the epochs without a better loss after which a search ends."""
    return max(PATIENT_EPOCHS, math.ceil(PATIENT_STEPS / recipe.steps_per_epoch))


def best_epoch(losses) -> int:
    """Return the epoch, counted from 1, of the lowest loss; 1 if none is finite."""
    losses = np.array(losses, dtype=float)
    return 1 + int(np.nan_to_num(losses, nan=np.inf, posinf=np.inf).argmin())


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
    found : int or None, default=None
        The epoch that was found, here, by other networks or in an interrupted fit.
    """

    recipe: NetRecipe
    data: object
    train_split: Callable | None
    seed: int
    found: int | None = None

    @property
    def max_epochs(self) -> int:
        """Epochs of the whole fit."""
        return self.recipe.max_epochs

    def epochs_of(self, steps: int) -> int:
        """Return how many epochs hold about so many steps, at least 1."""
        return max(1, round(steps / self.recipe.steps_per_epoch))

    def warmup_epochs(self, given="auto", *, until_settled: bool = False) -> int:
        """Return the number of epochs that was given, or the one that is found.

        That is the epoch after which the loss on held-out rows is lowest. An auxiliary network is
        trained for it, until that loss has not fallen for 55 steps and 5 epochs; at most half of
        all epochs. Fewer than 50 rows leave too few to hold out: then it is the epoch of the 20th
        step. Where the number of epochs is 'auto', it is known from then on: the least, or if
        training ends once labels have settled, the most.
        """
        if given == "auto" and self.found is None:
            limit = self.recipe.longest_warmup
            if limit > 1 and len(self.data.labels) >= FEWEST_ROWS:
                self.found = self._train(limit)
            else:
                self.found = max(1, min(self.epochs_of(20), limit))
        epochs = self.found if given == "auto" else given
        self.recipe = self.recipe.after(epochs, until_settled=until_settled)
        return epochs

    def refined_epochs(self, warmup: int) -> tuple[int, int | None]:
        """Return the fewest epochs after the warm-up, and after how many labels may settle.

        The latter is None where the number of epochs was given.
        """
        refinement = self.recipe.refinement
        if refinement is None:
            return self.max_epochs - warmup, None
        return refinement.least, refinement.least

    def _train(self, limit):
        seed = np.random.RandomState(self.seed).randint(MAX_SEED)  # the fit's own draws stay
        with seeded(seed, self.recipe.device):
            net = self.recipe.search_net(
                self.recipe.criterion(self.data),
                [
                    ("sknoisy_stop", EarlyStopping(patience=patience_of(self.recipe))),
                    *self.recipe.augment(),
                    *GivenLabels().with_companions(),
                ],
                max_epochs=limit,
                train_split=self.train_split or self.hold_out,
                seed=seed,
            )
            net.fit(self.data.X, np.arange(self.data.X.shape[0]))
        if net.interrupted_:  # nothing is fitted yet that could be kept
            raise KeyboardInterrupt
        return best_epoch(net.history[:, "valid_loss"])

    def hold_out(self, dataset, y=None):
        """Split a tenth of the labeled rows off, by numpy's generator, which the search seeds."""
        order = np.random.permutation(len(self.data.labels))  # noqa: NPY002 - augmentations draw on
        n_held_out = len(self.data.labels) // HELD_OUT_ROWS
        return Subset(dataset, order[n_held_out:]), Subset(dataset, order[:n_held_out])
