"""Cross-fitting: networks judged by labels of rows that they were not trained on.

The rows are split into two folds, stratified by given label. On each a network is trained plainly,
to the lowest loss on the other fold, and from there on by the method itself. Their predictions for
the rows they have not seen are the evidence on which a fit rests.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import torch

from sknoisy.rows import take_rows
from sknoisy.training.calibration import held_out_spread
from sknoisy.training.comparison import compare, told_by
from sknoisy.training.evidence import Evidence
from sknoisy.training.fold_nets import (
    held_out_logits,
    lend_state,
    mean_losses,
    train_on,
    train_plain,
)
from sknoisy.training.gains import likelihood_gain
from sknoisy.training.halves import Halves
from sknoisy.training.label_callback import LabelCallback
from sknoisy.training.noise_model import chunks, fit_noise_model, joint_of, to_proba
from sknoisy.training.recipe import NetRecipe
from sknoisy.training.relabeling import is_wide, keep_trusted, try_relabeling
from sknoisy.training.trusted_linear import compare_with_linear
from sknoisy.training.warmup_search import GivenLabels, WarmupSearch, best_epoch

FEWEST_ROWS, FEWEST_EPOCHS = 50, 4  # below it halves say nothing


def can_cross_fit(data, recipe: NetRecipe) -> bool:
    """Return whether there are enough rows and epochs to train on halves."""
    n_rows = len(data.labels) if data.weights is None else (data.weights > 0).sum()
    return n_rows >= FEWEST_ROWS and recipe.max_epochs >= FEWEST_EPOCHS


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
    epochs = evidence.judged_epochs or evidence.plain_epochs
    return labels.without_correction(epochs), epochs, evidence


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
    nets = halves.each(partial(train_plain, recipe, data), GivenLabels())
    begins = search.found = best_epoch(mean_losses(nets)[: recipe.longest_warmup])
    labels = make_labels(search)
    recipe = search.recipe
    halves = halves.with_trusted(labels.trusted)
    weights = data.sample_weights
    weights = torch.ones(len(given)) if weights is None else weights.clone()
    weights[halves.trusted_rows] = 0

    def model_of(nets, prior):
        """Return the noise model of the nets; None where they diverged."""
        logits, shift = held_out_logits(recipe, data, halves.held_out, nets, prior)
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
        partial(train_on, recipe, data, begins=begins, prior=prior), labels, nets
    )
    corrected = model_of(corrected_nets, prior)
    if corrected is None:
        return None, labels
    losses = mean_losses(nets), mean_losses(corrected_nets)
    evidence = recipe.ranks.first(
        compare(model, corrected, weights, (begins, plain_epochs), losses)
    )
    chosen = corrected if evidence.is_corrected else model
    of_corrected = {"temperature": corrected.temperature}
    of_corrected["spread"] = held_out_spread(corrected.logits, weights)
    del model, corrected  # the logits of one are as large as the table of soft labels
    del nets, net, corrected_nets
    fewest = min((weights[rows] > 0).sum() for rows in halves.held_out)
    # What a user holds out to judge a fit must not shape the labels that it is trained on.
    if is_wide(data) and fewest >= FEWEST_ROWS and search.train_split is None:
        epochs = len(losses[0])  # after which held-out labels told plain networks nothing more
        found = try_relabeling(recipe, data, halves, weights, chosen, model_of, epochs)
        if found is not None:
            gain = {"relabeling_gain": found.gain, "relabeling_gain_error": found.gain_error}
            evidence = replace(evidence, **gain)
        if found is not None and found.helps:
            chosen = found.model
            told = recipe.ranks.first(told_by(chosen, weights))
            told |= {"is_relabeled": True, "is_corrected": False, "is_symmetric": False}
            evidence = replace(evidence, **told, judged_epochs=epochs)
    linear = None
    if halves.trusted is not None and search.train_split is None:
        linear = compare_with_linear(data.X, halves.trusted, chosen, halves.seeds[0])
        linear = recipe.ranks.first(linear)
    if linear is not None:
        gain = {"linear_gain": linear.gain, "linear_gain_error": linear.gain_error}
        evidence = replace(evidence, **gain)
    if linear is not None and linear.is_better:
        chosen = linear.join(data.X, chosen, weights, recipe.ranks)
        told = recipe.ranks.first(told_by(chosen, weights))
        told |= {"is_pooled": True, "is_corrected": True, "is_relabeled": False}
        evidence = replace(evidence, **told | {"judged_epochs": 0} | of_corrected)
    joint = chosen.joint
    if data.label_proba is not None:  # tables are about one label a row
        joint = joint_of(chosen, torch.from_numpy(data.labels), weights)
    joint = recipe.ranks.first(halves.with_known(joint, weights))
    recipe.ranks.once(chosen.logits, lambda: to_proba(chosen.logits, chosen.temperature))
    keep_trusted(chosen.logits, data.labels, halves.trusted_rows, recipe.ranks)
    return replace(evidence, joint=joint.numpy(), proba=chosen.logits.numpy()), labels


def _labeled(data):
    """Return the training data without rows that have no label."""
    n_labels = len(data.labels)
    if data.X.shape[0] == n_labels:
        return data
    return replace(data, X=take_rows(data.X, np.arange(n_labels)))
