"""Cross-fitting: networks judged by labels of rows that they were not trained on.

The rows are split into two folds, stratified by given label. On each a network is trained plainly,
to the lowest loss on the other fold, and from there on by the method itself. Their predictions for
the rows they have not seen are the evidence on which a fit rests.
"""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from skorch.callbacks import Callback
from skorch.utils import to_device
from torch import Tensor
from torch.utils.data import Subset

from sknoisy.functional import at_least_float32, shift_prior
from sknoisy.training.data import RowDataset
from sknoisy.training.evidence import Evidence, compare, likelihood_gain
from sknoisy.training.label_callback import LabelCallback
from sknoisy.training.noise_model import calibrated_loss, fit_noise_model
from sknoisy.training.recipe import NetRecipe
from sknoisy.training.seeds import MAX_SEED, seeded
from sknoisy.training.warmup_search import (
    GivenLabels,
    WarmupSearch,
    best_epoch,
    patience_of,
)

FOLDS = 2
FEWEST_ROWS, FEWEST_EPOCHS = 50, 4  # below it halves say nothing
PRIOR_STEPS = 20  # until a prior is met: what is predicted moves less than it is shifted


class KeepBest(Callback):
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
        self.lowest_, self.states_, self.epochs_ = [np.inf] * 2, [None] * 2, [0] * 2
        self.batches_, self.log_beta_ = [], 0.0

    def on_batch_end(self, net, batch, training=False, y_pred=None, **kwargs):
        """Gather the logits of held-out rows."""
        if not training:
            self.batches_.append((y_pred.detach(), to_device(batch[1], y_pred.device)))

    def on_epoch_end(self, net, **kwargs):
        """Keep a state if no epoch was as good; the first one in any case."""
        logits, rows = map(torch.cat, zip(*self.batches_, strict=True))
        self.batches_ = []
        given, weights = net.criterion_.given[rows], net.criterion_.weights_of(rows)
        calibrated, self.log_beta_ = calibrated_loss(logits, given, weights, self.log_beta_)
        net.history.record("calibrated_loss", calibrated)
        epoch, state = len(net.history), None
        plain = net.history[-1, "valid_loss"] if epoch <= self.limit else np.inf
        for k, loss in enumerate((plain, calibrated)):
            if self.states_[k] is None or loss < self.lowest_[k]:
                state = state or deepcopy((net.module_.state_dict(), net.optimizer_.state_dict()))
                self.lowest_[k] = loss if np.isfinite(loss) else np.inf
                self.states_[k], self.epochs_[k] = state, epoch
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


def stratified_folds(labels: np.ndarray, seed: int, counted=None) -> np.ndarray:
    """Return the fold (n,) of each row, 0 or 1: of each class as many in either, as far as even.

    So are the rows of each class that are `counted`, bool (n,), where only some are.
    """
    rng = np.random.RandomState(seed)
    counted = np.ones(len(labels), dtype=bool) if counted is None else counted
    order = np.lexsort((rng.random_sample(len(labels)), counted, labels))
    folds = np.empty(len(labels), dtype=np.int64)
    folds[order] = (np.arange(len(labels)) + rng.randint(FOLDS)) % FOLDS
    return folds


def can_cross_fit(data, recipe: NetRecipe) -> bool:
    """Return whether there are enough rows and epochs to train on halves."""
    n_rows = len(data.labels) if data.weights is None else (data.weights > 0).sum()
    return n_rows >= FEWEST_ROWS and recipe.max_epochs >= FEWEST_EPOCHS


def _split(held_out, dataset, y=None):
    rows = np.setdiff1d(np.arange(len(dataset)), held_out)
    return Subset(dataset, rows), Subset(dataset, held_out)


def plan_fit(
    search: WarmupSearch,
    make_labels: Callable[[WarmupSearch], LabelCallback],
    evidence: Evidence | None,
    *,
    gather: bool,
) -> tuple[LabelCallback, int, Evidence | None]:
    """Return a fit's label callback, its number of epochs, and the evidence that decided.

    Parameters
    ----------
    search : WarmupSearch
        Of the fit that is to come.
    make_labels : callable
        Returns the method's label callback, given that search.
    evidence : Evidence or None
        What an interrupted fit had gathered.
    gather : bool
        Whether to gather it, if there are enough rows and epochs.
    """
    labels = None
    if evidence is None and gather and can_cross_fit(search.data, search.recipe):
        evidence, labels = gather_evidence(search, make_labels)
    if labels is None:
        labels = make_labels(search)
    if evidence is None or evidence.is_corrected:
        return labels, search.max_epochs, evidence
    return labels.without_correction(evidence.plain_epochs), evidence.plain_epochs, evidence


def gather_evidence(
    search: WarmupSearch, make_labels: Callable[[WarmupSearch], LabelCallback]
) -> tuple[Evidence | None, LabelCallback]:
    """Cross-fit the networks of a fit, which also finds the warm-up.

    Parameters
    ----------
    search : WarmupSearch
        Of the fit that is to come; not searched yet, but by what the plain networks find.
    make_labels : callable
        Returns the method's label callback, given that search.

    Returns
    -------
    evidence : Evidence or None
        None where the networks diverged, or all but a few rows are trusted.
    labels : LabelCallback
        The method's callback, not used yet.
    """
    recipe, data, rng = search.recipe, _labeled(search.data), np.random.RandomState(search.seed)
    counted = None if data.weights is None else data.weights.numpy() > 0
    folds = stratified_folds(data.labels, rng.randint(MAX_SEED), counted)
    seeds = [rng.randint(MAX_SEED) for _ in range(FOLDS)]
    held_out = [np.flatnonzero(folds == k) for k in range(FOLDS)]
    nets = [
        _train_plain(recipe, data, rows, seed) for rows, seed in zip(held_out, seeds, strict=True)
    ]
    begins = search.found = best_epoch(mean_losses(nets)[: half_of(recipe)])
    labels, given = make_labels(search), torch.from_numpy(data.labels)
    weights, seen = data.sample_weights, labels.always_seen()
    weights = torch.ones(len(given)) if weights is None else weights.clone()
    weights[torch.from_numpy(seen)] = 0
    logits_of = partial(_logits, recipe, data, held_out)
    logits = logits_of(nets, data.given_prior)
    if (weights > 0).sum() < FEWEST_ROWS or not logits.isfinite().all():
        return None, labels
    plain, plain_epochs = fit_noise_model(logits, given, weights), begins
    ends = best_epoch(mean_losses(nets, "calibrated_loss"))
    if ends > begins:
        for net in nets:
            net.module_.load_state_dict(net.later_state_)
        later = fit_noise_model(logits_of(nets, data.given_prior), given, weights)
        gain, error = likelihood_gain(later, plain, weights)
        if gain > error:
            plain, plain_epochs = later, ends
    prior = plain.class_prior if data.class_weights is None else data.given_prior
    corrected_nets = [
        _train_on(recipe, data, rows, seed, net, begins, labels.fresh(), prior)
        for rows, seed, net in zip(held_out, seeds, nets, strict=True)
    ]
    logits = logits_of(corrected_nets, prior)
    if not logits.isfinite().all():
        return None, labels
    corrected = fit_noise_model(logits, given, weights)
    losses = mean_losses(nets), mean_losses(corrected_nets)
    has_trusted = labels.trusted is not None
    epochs = begins, plain_epochs
    evidence = compare(
        plain, corrected, given, weights, epochs, losses, has_trusted_rows=has_trusted
    )
    evidence.proba[seen] = np.eye(recipe.n_classes)[data.labels[seen]]  # known to be right
    return evidence, labels


def _labeled(data):
    """Return the training data without rows that have no label."""
    n_labels = len(data.labels)
    return data if data.X.shape[0] == n_labels else replace(data, X=data.X[np.arange(n_labels)])


def _train_plain(recipe, data, held_out, seed):
    """Return a net trained on the given labels of all rows but `held_out`, at its best epoch."""
    with seeded(seed, recipe.device):
        net = recipe.search_net(
            recipe.criterion(data),
            [
                ("keep", KeepBest(patience_of(recipe), half_of(recipe))),
                *recipe.augment(),
                *GivenLabels().with_companions(),
            ],
            max_epochs=recipe.max_epochs,
            train_split=partial(_split, held_out),
        )
        net.fit(data.X, np.arange(data.X.shape[0]))
    if net.interrupted_:  # nothing is fitted yet that could be kept
        raise KeyboardInterrupt
    net.states_, (net.later_state_, _) = dict(net.callbacks_)["keep"].states_
    net.module_.load_state_dict(net.states_[0])
    return net


def half_of(recipe) -> int:
    """Return half of a fit's epochs, at least 1: a warm-up takes no more."""
    return max(1, recipe.max_epochs // 2)


def mean_losses(nets, name="valid_loss") -> np.ndarray:
    """Return the loss of held-out rows after each epoch, mean of the nets, as far as all came."""
    epochs = min(sum(name in epoch for epoch in net.history) for net in nets)
    return np.mean([net.history[:epochs, name] for net in nets], axis=0)


def _train_on(recipe, data, held_out, seed, plain_net, begins, labels, class_prior):
    """Return a net that goes on from a plain one's best epoch by the method's own labels."""
    history = list(plain_net.history[: min(begins, labels.warmup_epochs)])
    go_on = GoOn(history, *plain_net.states_)
    with seeded(seed, recipe.device):
        net = recipe.search_net(
            recipe.criterion(data, class_prior),
            [*recipe.augment(), *labels.with_companions()],
            max_epochs=recipe.max_epochs,
            train_split=partial(_split, held_out),
            checkpoint=go_on,
        )
        net.fit(data.X, np.arange(data.X.shape[0]))
    if net.interrupted_:
        raise KeyboardInterrupt
    return net


def _logits(recipe, data, held_out, nets, prior) -> Tensor:
    """Return the logits (n, C) of each row by the net that was not trained on it.

    Where class weights moved how often classes are predicted, they are moved back to a prior (C,).
    """
    logits = torch.zeros(len(data.labels), recipe.n_classes, dtype=torch.float64)
    for rows, net in zip(held_out, nets, strict=True):
        unseen = Subset(RowDataset(data.X), rows)
        found = [at_least_float32(batch).double() for batch in net.forward_iter(unseen)]
        logits[torch.from_numpy(rows)] = torch.cat(found)
    if data.class_weights is None:
        return logits
    weights = data.sample_weights
    weights = torch.ones(len(logits)) if weights is None else weights
    for _ in range(PRIOR_STEPS):
        predicted = weights.double() @ logits.softmax(dim=1) / weights.sum()
        logits = shift_prior(logits, predicted, prior)
    return logits
