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
from torch import Tensor
from torch.nn.functional import one_hot
from torch.utils.data import Subset

from sknoisy.functional import shift_prior
from sknoisy.rows import take_rows
from sknoisy.training.evidence import Evidence, compare, likelihood_gain
from sknoisy.training.features import write_logits
from sknoisy.training.halves import Halves
from sknoisy.training.held_out import OnHeldOut
from sknoisy.training.label_callback import LabelCallback
from sknoisy.training.noise_model import chunks, fit_noise_model, joint_of, to_proba
from sknoisy.training.recipe import NetRecipe, table_dtype
from sknoisy.training.seeds import seeded
from sknoisy.training.warmup_search import (
    GivenLabels,
    WarmupSearch,
    best_epoch,
    patience_of,
)

FEWEST_ROWS, FEWEST_EPOCHS = 50, 4  # below it halves say nothing
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
    halves, data = Halves.of(search), _labeled(search.data)
    recipe, given = search.recipe, data.given
    nets = halves.each(partial(_train_plain, recipe, data), GivenLabels())
    begins = search.found = best_epoch(mean_losses(nets)[: recipe.longest_warmup])
    labels = make_labels(search)
    recipe = search.recipe
    halves = halves.with_trusted(labels.trusted)
    weights = data.sample_weights
    weights = torch.ones(len(given)) if weights is None else weights.clone()
    weights[halves.trusted_rows] = 0

    def model_of(nets, prior):
        """Return the noise model of the nets; None where they diverged."""
        logits, shift = _logits(recipe, data, halves.held_out, nets, prior)
        if not all(logits[rows].isfinite().all() for rows in chunks(logits)):
            return None
        return fit_noise_model(logits, given, weights, halves.known(nets, logits, shift))

    model, plain_epochs = None, begins
    if (weights > 0).sum() >= FEWEST_ROWS:
        model = model_of(nets, data.given_prior)
    if model is None:
        return None, labels
    ends = best_epoch(mean_losses(nets, "calibrated_loss"))
    if ends > begins:
        for net in nets:
            lend_state(net, net.later_state_)
        later = model_of(nets, data.given_prior)
        if later is not None:
            gain, error = likelihood_gain(later, model, weights)
            if recipe.ranks.first(gain > error):
                model, plain_epochs = later, ends
            del later
    for net in nets:  # a network of text is large, and 2 more are to come
        lend_state(net, net.states_[0])
        del net.later_state_
    prior = data.given_prior
    if data.class_weights is None:
        prior = recipe.ranks.first(halves.with_known(model.joint, weights).sum(dim=1))
    corrected_nets = halves.each(
        partial(_train_on, recipe, data, begins=begins, prior=prior), labels, nets
    )
    corrected = model_of(corrected_nets, prior)
    if corrected is None:
        return None, labels
    losses = mean_losses(nets), mean_losses(corrected_nets)
    evidence = recipe.ranks.first(
        compare(model, corrected, weights, (begins, plain_epochs), losses)
    )
    chosen = corrected if evidence.is_corrected else model
    del model, corrected  # the logits of one are as large as the table of soft labels
    joint = chosen.joint
    if data.label_proba is not None:  # tables are about one label a row
        joint = joint_of(chosen, torch.from_numpy(data.labels), weights)
    joint = recipe.ranks.first(halves.with_known(joint, weights))
    recipe.ranks.once(chosen.logits, partial(_to_proba, chosen, data.labels, halves.trusted_rows))
    return replace(evidence, joint=joint.numpy(), proba=chosen.logits.numpy()), labels


def _to_proba(model, labels, trusted):
    """Replace a model's logits by probabilities; those of trusted rows are their labels."""
    to_proba(model.logits, model.temperature)
    of_trusted = torch.from_numpy(labels[trusted])
    model.logits[torch.from_numpy(trusted)] = one_hot(of_trusted, model.logits.shape[1]).to(
        model.logits
    )


def _labeled(data):
    """Return the training data without rows that have no label."""
    n_labels = len(data.labels)
    if data.X.shape[0] == n_labels:
        return data
    return replace(data, X=take_rows(data.X, np.arange(n_labels)))


def _train_plain(recipe, data, held_out, seed, labels):
    """Return a net trained on the given labels of all rows but `held_out`, at its best epoch."""
    with seeded(seed, recipe.device):
        net = recipe.search_net(
            recipe.criterion(data),
            [
                ("sknoisy_keep", KeepBest(patience_of(recipe), recipe.longest_warmup)),
                *recipe.augment(),
                *labels.with_companions(),
            ],
            max_epochs=recipe.longest,
            train_split=partial(_split, held_out),
            seed=seed,
        )
        net.fit(data.X, np.arange(data.X.shape[0]))
    if net.interrupted_:  # nothing is fitted yet that could be kept
        raise KeyboardInterrupt
    net.criterion_.forget()
    keep = dict(net.callbacks_)["sknoisy_keep"]
    net.states_, (net.later_state_, _) = keep.states_
    del keep.states_, net.optimizer_  # which has the weights of the last epoch
    lend_state(net, net.states_[0])
    return net


def lend_state(net, state: dict) -> None:
    """Give a net's module the tensors of a state themselves, to predict by: no copies."""
    # As a plain dict: of a state dict torch notes that it is to be assigned, the next time too.
    net.module_.load_state_dict(dict(state), assign=True)


def mean_losses(nets, name="valid_loss") -> np.ndarray:
    """Return the loss of held-out rows after each epoch, mean of the nets, as far as all came."""
    epochs = min(sum(name in epoch for epoch in net.history) for net in nets)
    return np.mean([net.history[:epochs, name] for net in nets], axis=0)


def _train_on(recipe, data, held_out, seed, plain_net, *, labels, begins, prior):
    """Return a net that goes on from a plain one's best epoch by the method's own labels."""
    history = list(plain_net.history[: min(begins, labels.warmup_epochs)])
    go_on = GoOn(history, *plain_net.states_)
    with seeded(seed, recipe.device):
        net = recipe.search_net(
            recipe.criterion(data, prior, labels.room(data)),
            [*labels.scorers(), *recipe.augment(), *labels.with_companions()],
            max_epochs=recipe.max_epochs,
            train_split=partial(_split, held_out),
            checkpoint=go_on,
            seed=seed,
        )
        net.fit(data.X, np.arange(data.X.shape[0]))
    if net.interrupted_:
        raise KeyboardInterrupt
    net.criterion_.forget()
    return net


def _logits(recipe, data, held_out, nets, prior) -> tuple[Tensor, Tensor]:
    """Return the logits (n, C) of each row by the net that was not trained on it, and their shift.

    Where class weights moved how often classes are predicted, they are moved back to a prior (C,).
    """
    dtype = table_dtype(recipe.module)
    logits = recipe.ranks.zeros((len(data.labels), recipe.n_classes), dtype)
    for rows, net in zip(held_out, nets, strict=True):
        write_logits(net, net.get_dataset(data.X), torch.from_numpy(rows), logits)
    shift = torch.zeros(recipe.n_classes, dtype=torch.float64)
    if data.class_weights is None:
        return logits, shift
    weights = data.sample_weights
    weights = torch.ones(len(logits)) if weights is None else weights
    weights = weights.double() / weights.sum()
    for _ in range(PRIOR_STEPS):
        predicted = sum(
            weights[rows] @ (logits[rows] + shift).softmax(dim=1) for rows in chunks(logits)
        )
        shift = shift_prior(shift, predicted, prior)
    recipe.ranks.once(logits, lambda: logits.add_(shift))
    return logits, shift
