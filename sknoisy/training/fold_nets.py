"""Networks trained on a part of the rows, and what they predict for the others."""

from copy import deepcopy
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Subset

from sknoisy.functional import shift_prior
from sknoisy.training.features import write_logits
from sknoisy.training.held_out import OnHeldOut
from sknoisy.training.noise_model import chunks
from sknoisy.training.recipe import table_dtype
from sknoisy.training.seeds import seeded
from sknoisy.training.warmup_search import patience_of

PRIOR_STEPS = 20  # until a prior is met: what is predicted moves less than it is shifted


class KeepBest(OnHeldOut):
    """Train until held-out rows tell nothing more; keep the net at two epochs.

    At the lowest loss, where memorization begins, and at the lowest loss once the temperature is
    right: confidence that grows faster than knowledge ends the first, but can be mended. Stop when
    neither has fallen for as many epochs as `patience` (E. Berta, D. Holzmüller, M. I.
    Jordan, F. Bach, "Rethinking Early Stopping: Refine, Then Calibrate", arXiv 2501.19195, 2025).

    Parameters
    ----------
    patience : int
        Epochs.
    limit : int
        The last epoch at which the lowest loss may be.
    """

    def __init__(self, patience, limit):
        self.patience = patience
        self.limit = limit

    def on_train_begin(self, net, **kwargs):
        """Forget an earlier training."""
        super().on_train_begin(net, **kwargs)
        self.lowest_, self.states_, self.epochs_ = [np.inf] * 2, [None] * 2, [0] * 2

    def judge(self, net, calibrated, accuracy):
        """Keep a state if no epoch was as good; the first one in any case."""
        net.history.record("calibrated_loss", calibrated)
        epoch = len(net.history)
        plain = net.history[-1, "valid_loss"] if epoch <= self.limit else np.inf
        better = {
            k: loss
            for k, loss in enumerate((plain, calibrated))
            if self.states_[k] is None or loss < self.lowest_[k]
        }
        for k, loss in better.items():
            self.lowest_[k] = loss if np.isfinite(loss) else np.inf
            self.states_[k], self.epochs_[k] = None, epoch  # its memory is free for the copy
        if better:
            state = deepcopy((net.module_.state_dict(), net.optimizer_.state_dict()))
            self.states_ = [state if k in better else self.states_[k] for k in range(2)]
        if epoch - max(self.epochs_) >= self.patience:
            raise KeyboardInterrupt  # as skorch's own callbacks end a training


class GoOn:
    """Lets a net go on from a state after some epochs, in the place of a checkpoint."""

    def __init__(self, history: list, module_state: dict, optimizer_state: dict):
        self.history = history
        self.states = module_state, optimizer_state

    @property
    def epochs_done(self) -> int:
        """Number of epochs that need not be trained again."""
        return len(self.history)

    def restore(self, net, *split):
        """Put the net where the state was taken."""
        net.history.extend(self.history)
        net.module_.load_state_dict(self.states[0])
        net.optimizer_.load_state_dict(self.states[1])


def _split(held_out, rows, dataset, y=None):
    rows = np.setdiff1d(np.arange(len(dataset)) if rows is None else rows, held_out)
    return Subset(dataset, rows), Subset(dataset, held_out)


def train_plain(recipe, data, held_out, seed, labels, *, rows=None):
    """Return a net trained on all rows but `held_out`, or on those of `rows`, at its best epoch.

    `labels` is `GivenLabels`, which writes none.
    """
    keep = KeepBest(patience_of(recipe), recipe.longest_warmup)
    split = partial(_split, held_out, rows)
    net = _train(recipe, data, split, seed, labels, recipe.longest, [("sknoisy_keep", keep)])
    keep = dict(net.callbacks_)["sknoisy_keep"]
    net.states_, (net.later_state_, _) = keep.states_
    del keep.states_, net.optimizer_  # which has the weights of the last epoch
    lend_state(net, net.states_[0])
    return net


def train_for(recipe, data, held_out, seed, labels, *, epochs):
    """Return a net trained on all rows but `held_out` for so many epochs, by such `labels`."""
    net = _train(recipe, data, partial(_split, held_out, None), seed, labels, epochs, [])
    del net.optimizer_
    return net


def _train(recipe, data, split, seed, labels, max_epochs, callbacks):
    with seeded(seed, recipe.device):
        net = recipe.search_net(
            recipe.criterion(data, is_written=False),
            [*callbacks, *recipe.augment(), *labels.with_companions()],
            max_epochs=max_epochs,
            train_split=split,
            seed=seed,
        )
        net.fit(data.X, np.arange(data.X.shape[0]))
    if net.interrupted_:  # nothing is fitted yet that could be kept
        raise KeyboardInterrupt
    net.criterion_.forget()
    return net


def lend_state(net, state: dict) -> None:
    """Give a net's module the tensors of a state themselves, to predict by: no copies."""
    # As a plain dict: of a state dict torch notes that it is to be assigned, the next time too.
    net.module_.load_state_dict(dict(state), assign=True)


def mean_losses(nets, name="valid_loss") -> np.ndarray:
    """Return the loss of held-out rows after each epoch, mean of the nets, as far as all came."""
    epochs = min(sum(name in epoch for epoch in net.history) for net in nets)
    return np.mean([net.history[:epochs, name] for net in nets], axis=0)


def train_on(recipe, data, held_out, seed, plain_net, *, labels, begins, prior):
    """Return a net that goes on from a plain one's best epoch by the method's own labels."""
    history = list(plain_net.history[: min(begins, labels.warmup_epochs)])
    go_on = GoOn(history, *plain_net.states_)
    with seeded(seed, recipe.device):
        net = recipe.search_net(
            recipe.criterion(data, prior, labels.room(data)),
            [*labels.scorers(), *recipe.augment(), *labels.with_companions()],
            max_epochs=recipe.max_epochs,
            train_split=partial(_split, held_out, None),
            checkpoint=go_on,
            seed=seed,
        )
        net.fit(data.X, np.arange(data.X.shape[0]))
    if net.interrupted_:
        raise KeyboardInterrupt
    net.criterion_.forget()
    return net


def held_out_logits(recipe, data, held_out, nets, prior) -> tuple[Tensor, Tensor]:
    """Return the logits (n, C) of rows by the net that held them out, and their shift (C,).

    Those of rows that no net held out are 0.
    Where class weights moved how often classes are predicted, they are moved back to a prior (C,).
    """
    dtype = table_dtype(recipe.module)
    logits = recipe.ranks.zeros((len(data.labels), recipe.n_classes), dtype)
    for rows, net in zip(held_out, nets, strict=True):
        write_logits(net, net.get_dataset(data.X), torch.from_numpy(rows), logits)
    shift = torch.zeros(recipe.n_classes, dtype=torch.float64)
    if data.class_weights is None:
        return logits, shift
    weights = torch.zeros(len(logits), dtype=torch.float64)
    for rows in held_out:
        weights[rows] = 1 if data.sample_weights is None else data.sample_weights[rows].double()
    weights = weights / weights.sum()
    for _ in range(PRIOR_STEPS):
        predicted = sum(
            weights[rows] @ (logits[rows] + shift).softmax(dim=1) for rows in chunks(logits)
        )
        shift = shift_prior(shift, predicted, prior)
    recipe.ranks.once(logits, lambda: logits.add_(shift))
    return logits, shift
