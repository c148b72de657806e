"""Out-of-sample evidence: networks judged by labels of rows that they were not trained on.

The rows are split into two folds, stratified by given label. On each a network is trained plainly,
to the lowest loss on the other fold, and from there on by the method itself. Their predictions for
the rows they have not seen tell whether correcting labels helps: a label that is foretold better by
the corrected networks than by the plain ones was worth correcting, whether it is right or wrong,
since both predict through a noise model of their own (see `fit_noise_model`).
"""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from skorch.callbacks import Callback, EarlyStopping
from torch import Tensor
from torch.utils.data import Subset

from sknoisy.functional import at_least_float32
from sknoisy.training.data import RowDataset
from sknoisy.training.label_callback import LabelCallback
from sknoisy.training.noise_model import NoiseModel, fit_noise_model
from sknoisy.training.recipe import NetRecipe
from sknoisy.training.seeds import MAX_SEED, seeded
from sknoisy.training.warmup_search import (
    GivenLabels,
    Memorization,
    WarmupSearch,
    halving_epochs,
    patience_of,
)

FOLDS = 2
FEWEST_ROWS, FEWEST_EPOCHS = 50, 4  # below it halves say nothing


@dataclass(frozen=True)
class Evidence:
    """What networks foretold for rows that they were not trained on.

    Attributes
    ----------
    n_rows : int
        Rows with a given label, each held out once.
    warmup_epochs : int
        Epochs of plain training to the lowest loss on held-out rows.
    agreement_plain, agreement_corrected : float
        Fraction of held-out labels that were predicted, by plain training to that epoch and by the
        method to its last one.
    agreement_error : float
        Standard error of the difference of the two.
    gain : float
        Log-likelihood of a held-out label under the corrected networks' noise model, minus that
        under the plain ones', in nats: above 0 correcting helps.
    gain_error : float
        Its standard error over the rows.
    is_corrected : bool
        Whether the gain is at least minus one standard error, and labels were corrected.
    noise_rate : float
        Estimated fraction of wrong given labels.
    temperature : float
        What logits are divided by, for calibrated probabilities.
    log_loss_before, log_loss_after : float
        Cross-entropy of held-out labels by the networks that were chosen: as they are, and by the
        noise model with temperature and transition matrix.
    transition : ndarray of shape (n_classes, n_classes)
        Noise transition matrix: probability of each given label (column) for each class (row).
    proba : ndarray of shape (n_rows, n_classes)
        Out-of-sample class probabilities, calibrated, which have not seen the row's label.
    """

    n_rows: int
    warmup_epochs: int
    agreement_plain: float
    agreement_corrected: float
    agreement_error: float
    gain: float
    gain_error: float
    is_corrected: bool
    noise_rate: float
    temperature: float
    log_loss_before: float
    log_loss_after: float
    transition: np.ndarray
    proba: np.ndarray

    def state_dict(self) -> dict:
        """Return the attributes as numbers and tensors."""
        return {
            name: torch.from_numpy(value) if isinstance(value, np.ndarray) else value
            for name, value in vars(self).items()
        }

    @classmethod
    def from_state(cls, state: dict) -> "Evidence":
        """Return the evidence of a state dict."""
        return cls(**{k: v.numpy() if isinstance(v, Tensor) else v for k, v in state.items()})

    def __str__(self):
        """Return the evidence as a table."""
        decision = "labels were corrected" if self.is_corrected else "labels were left as given"
        rows = [
            ("rows held out, once each", f"{self.n_rows}"),
            ("warm-up, epochs", f"{self.warmup_epochs}"),
            ("held-out labels predicted, plain", f"{self.agreement_plain:.1%}"),
            (
                "held-out labels predicted, corrected",
                f"{self.agreement_corrected:.1%} (difference +- {self.agreement_error:.1%})",
            ),
            ("gain of correcting, nats a label", f"{self.gain:+.3f} +- {self.gain_error:.3f}"),
            ("decision", decision),
            ("estimated noise rate", f"{self.noise_rate:.1%}"),
            ("temperature", f"{self.temperature:.2f}"),
            (
                "log loss of held-out labels",
                f"{self.log_loss_before:.3f}, by the noise model {self.log_loss_after:.3f}",
            ),
        ]
        width = max(len(name) for name, _ in rows)
        return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)


class KeepBestState(Callback):
    """Keep the network and the optimizer as they were at the lowest loss on held-out rows."""

    def on_train_begin(self, net, **kwargs):
        """Forget an earlier training."""
        self.loss_, self.state_ = np.inf, None

    def on_epoch_end(self, net, **kwargs):
        """Keep the state if no epoch was as good; the first one in any case."""
        loss = net.history[-1, "valid_loss"]
        if self.state_ is None or loss < self.loss_:
            self.loss_ = loss if np.isfinite(loss) else np.inf
            self.state_ = deepcopy((net.module_.state_dict(), net.optimizer_.state_dict()))


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


def stratified_folds(labels: np.ndarray, seed: int) -> np.ndarray:
    """Return the fold (n,) of each row, 0 or 1: of each class as many in either, as far as even."""
    rng = np.random.RandomState(seed)
    order = np.lexsort((rng.random_sample(len(labels)), labels))
    folds = np.empty(len(labels), dtype=np.int64)
    folds[order] = (np.arange(len(labels)) + rng.randint(FOLDS)) % FOLDS
    return folds


def can_cross_fit(data, recipe: NetRecipe) -> bool:
    """Return whether there are enough rows and epochs to train on halves."""
    return len(data.labels) >= FEWEST_ROWS and recipe.max_epochs >= FEWEST_EPOCHS


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
    return labels.without_correction(evidence.warmup_epochs), evidence.warmup_epochs, evidence


def gather_evidence(
    search: WarmupSearch, make_labels: Callable[[WarmupSearch], LabelCallback]
) -> tuple[Evidence, LabelCallback]:
    """Cross-fit the networks of a fit, which also finds the warm-up.

    Parameters
    ----------
    search : WarmupSearch
        Of the fit that is to come; not searched yet, but by what the plain networks find.
    make_labels : callable
        Returns the method's label callback, given that search.

    Returns
    -------
    evidence : Evidence
    labels : LabelCallback
        The method's callback, not used yet.
    """
    recipe, data, rng = search.recipe, search.data, np.random.RandomState(search.seed)
    folds = stratified_folds(data.labels, rng.randint(MAX_SEED))
    seeds = [rng.randint(MAX_SEED) for _ in range(FOLDS)]
    held_out = [np.flatnonzero(folds == k) for k in range(FOLDS)]
    nets = [
        _train_plain(recipe, data, rows, seed) for rows, seed in zip(held_out, seeds, strict=True)
    ]
    search.found = _memorization(nets)
    begins = search.found.begins
    plain = _logits(recipe, data, held_out, nets)
    labels = make_labels(search)
    corrected_nets = [
        _train_on(recipe, data, rows, seed, net, begins, labels.fresh())
        for rows, seed, net in zip(held_out, seeds, nets, strict=True)
    ]
    corrected = _logits(recipe, data, held_out, corrected_nets)
    weights, seen = data.weights, labels.always_seen()
    if len(seen):
        weights = torch.ones(len(data.labels)) if weights is None else weights.clone()
        weights[torch.from_numpy(seen)] = 0
    evidence = compare(plain, corrected, torch.from_numpy(data.labels), weights, begins)
    return evidence, labels


def compare(
    plain: Tensor, corrected: Tensor, given: Tensor, weights: Tensor | None, warmup_epochs: int
) -> Evidence:
    """Return what two tables of out-of-sample logits (n, C) tell of the given labels (n,)."""
    models = [fit_noise_model(logits, given, weights) for logits in (plain, corrected)]
    gain, gain_error = _paired(models[1].log_likelihood - models[0].log_likelihood, weights)
    hits = [(logits.argmax(dim=1) == given).double() for logits in (plain, corrected)]
    difference, agreement_error = _paired(hits[1] - hits[0], weights)
    is_corrected = gain >= -gain_error
    chosen: NoiseModel = models[is_corrected]
    logits = (plain, corrected)[is_corrected].double()
    losses = torch.nn.functional.cross_entropy(logits, given, reduction="none")
    agreement = _paired(hits[0], weights)[0]
    return Evidence(
        n_rows=len(given),
        warmup_epochs=warmup_epochs,
        agreement_plain=agreement,
        agreement_corrected=agreement + difference,
        agreement_error=agreement_error,
        gain=gain,
        gain_error=gain_error,
        is_corrected=bool(is_corrected),
        noise_rate=chosen.noise_rate,
        temperature=chosen.temperature,
        log_loss_before=_paired(losses, weights)[0],
        log_loss_after=-_paired(chosen.log_likelihood, weights)[0],
        transition=chosen.transition.numpy(),
        proba=(logits / chosen.temperature).softmax(dim=1).numpy(),
    )


def _paired(values: Tensor, weights: Tensor | None) -> tuple[float, float]:
    """Return the weighted mean of values (n,), and its standard error."""
    weights = torch.ones_like(values) if weights is None else weights.to(values)
    total = weights.sum()
    mean = (weights * values).sum() / total
    error = (weights.square() * (values - mean).square()).sum().sqrt() / total
    return mean.item(), error.item()


def _train_plain(recipe, data, held_out, seed):
    """Return a net trained on the given labels of all rows but `held_out`, at its best epoch."""
    keep = KeepBestState()
    with seeded(seed, recipe.device):
        net = recipe.search_net(
            recipe.criterion(data.labels, data.weights),
            [
                ("keep", keep),
                ("stop", EarlyStopping(patience=patience_of(recipe))),
                *recipe.augment(),
                *GivenLabels().with_companions(),
            ],
            max_epochs=max(1, recipe.max_epochs // 2),
            train_split=partial(_split, held_out),
        )
        net.fit(data.X, np.arange(data.X.shape[0]))
    if net.interrupted_:  # nothing is fitted yet that could be kept
        raise KeyboardInterrupt
    net.states_ = dict(net.callbacks_)["keep"].state_
    net.module_.load_state_dict(net.states_[0])
    return net


def _memorization(nets) -> Memorization:
    """Return when memorization sets in, by the mean loss of held-out rows over the folds."""
    epochs = min(sum("reliability" in epoch for epoch in net.history) for net in nets)
    losses = np.mean([net.history[:epochs, "valid_loss"] for net in nets], axis=0)
    best = int(np.nan_to_num(losses, nan=np.inf, posinf=np.inf).argmin())
    halving = [halving_epochs(net.history[best:, "train_loss"]) for net in nets]
    reliability = [net.history[best, "reliability"] for net in nets]
    return Memorization(best + 1, float(np.mean(halving)), float(np.mean(reliability)))


def _train_on(recipe, data, held_out, seed, plain_net, begins, labels):
    """Return a net that goes on from a plain one's best epoch by the method's own labels."""
    history = list(plain_net.history[: min(begins, labels.warmup_epochs)])
    go_on = GoOn(history, *plain_net.states_)
    with seeded(seed, recipe.device):
        net = recipe.search_net(
            recipe.criterion(data.labels, data.weights),
            [*recipe.augment(), *labels.with_companions()],
            max_epochs=recipe.max_epochs,
            train_split=partial(_split, held_out),
            checkpoint=go_on,
        )
        net.fit(data.X, np.arange(data.X.shape[0]))
    if net.interrupted_:
        raise KeyboardInterrupt
    return net


def _logits(recipe, data, held_out, nets) -> Tensor:
    """Return the logits (n, C) of each row by the net that was not trained on it."""
    logits = torch.zeros(len(data.labels), recipe.n_classes, dtype=torch.float64)
    for rows, net in zip(held_out, nets, strict=True):
        unseen = Subset(RowDataset(data.X), rows)
        found = [at_least_float32(batch).double() for batch in net.forward_iter(unseen)]
        logits[torch.from_numpy(rows)] = torch.cat(found)
    return logits
