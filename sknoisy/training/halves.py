"""Rows in two halves, each of which judges the network that was trained on the other."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from sknoisy.training.features import write_logits
from sknoisy.training.label_callback import LabelCallback
from sknoisy.training.seeds import MAX_SEED
from sknoisy.training.warmup_search import WarmupSearch

FOLDS = 2


def stratified_folds(labels: np.ndarray, seed: int, counted=None) -> np.ndarray:
    """Return the fold (n,) of each row, 0 or 1: of each class as many in either, as far as even.

    Rows that are not `counted`, bool (n,), are split beside them, whatever their labels are.
    """
    rng = np.random.RandomState(seed)
    labels = labels if counted is None else np.where(counted, labels, -1)
    order = np.lexsort((rng.random_sample(len(labels)), labels))
    folds = np.empty(len(labels), dtype=np.int64)
    folds[order] = (np.arange(len(labels)) + rng.randint(FOLDS)) % FOLDS
    return folds


@dataclass(frozen=True)
class Halves:
    """The rows in two folds, each held out of one net, and so are trusted rows.

    Attributes
    ----------
    held_out : list of ndarray
        The numbers of the rows of either fold.
    seeds : list of int
        Of the net that does not see it.
    trusted : object or None
        The rows whose labels are right: `X`, `labels`, `indices` or None, and `take`.
    trusted_folds : ndarray of shape (n_trusted,) or None
        The fold of each of them.
    """

    held_out: list
    seeds: list
    trusted: object = None
    trusted_folds: np.ndarray | None = None

    @classmethod
    def of(cls, search: WarmupSearch) -> "Halves":
        """Draw the folds by the seed of a fit."""
        data, rng = search.data, np.random.RandomState(search.seed)
        counted = None if data.weights is None else data.weights.numpy() > 0
        folds = stratified_folds(data.labels, rng.randint(MAX_SEED), counted)
        seeds = [rng.randint(MAX_SEED) for _ in range(FOLDS)]
        return cls([np.flatnonzero(folds == k) for k in range(FOLDS)], seeds)

    def within(self, k: int, labels: np.ndarray, counted: np.ndarray) -> "Halves":
        """Return fold k in two halves of its own; `labels` and `counted` are those of all rows."""
        rows, rng = self.held_out[k], np.random.RandomState(self.seeds[k])
        folds = stratified_folds(labels[rows], rng.randint(MAX_SEED), counted[rows])
        seeds = [rng.randint(MAX_SEED) for _ in range(FOLDS)]
        return Halves([rows[folds == j] for j in range(FOLDS)], seeds)

    def with_trusted(self, trusted) -> "Halves":
        """Return the same folds, with trusted rows, or None, split as they are."""
        if trusted is None:
            return self
        if trusted.indices is None:
            folds = stratified_folds(trusted.labels, self.seeds[0])
        else:
            folds = np.isin(trusted.indices, self.held_out[1]).astype(np.int64)
        return replace(self, trusted=trusted, trusted_folds=folds)

    @property
    def trusted_rows(self) -> np.ndarray:
        """Which of the rows are trusted."""
        indices = None if self.trusted is None else self.trusted.indices
        return np.zeros(0, dtype=np.int64) if indices is None else indices

    def with_known(self, joint: Tensor, weights: Tensor) -> Tensor:
        """Return the joint fractions (C, C) of classes and given labels of all rows.

        `joint` is that of rows which count by their `weights` (n,); trusted ones have their class.
        """
        if not len(self.trusted_rows):
            return joint
        known = torch.from_numpy(self.trusted.labels).bincount(minlength=len(joint))
        total = weights.sum().double()
        return (total * joint + known.double().diag()) / (total + known.sum())

    def each(self, train, labels: LabelCallback, *others) -> list:
        """Return what `train` makes of either fold and of a label callback that has not seen it."""
        nets = []
        for k, fold in enumerate(zip(self.held_out, self.seeds, *others, strict=True)):
            changes = {}
            if self.trusted is not None:
                changes["trusted"] = self.trusted.take(self.trusted_folds != k)
            nets.append(train(*fold, labels=labels.fresh(**changes)))
        return nets

    def known(self, nets, logits: Tensor, shift: Tensor) -> tuple[Tensor, Tensor] | None:
        """Return logits (m, C) and labels of trusted rows, each by the net that did not see it.

        Those among the rows have `logits` (n, C) already, which the same `shift` (C,) moved.
        """
        if self.trusted is None:
            return None
        labels = torch.from_numpy(self.trusted.labels)
        if self.trusted.indices is not None:
            return logits[self.trusted.indices], labels
        found = logits.new_zeros(len(labels), logits.shape[1])
        for k, net in enumerate(nets):
            rows = torch.from_numpy(np.flatnonzero(self.trusted_folds == k))
            write_logits(net, net.get_dataset(self.trusted.X), rows, found)
        return found + shift, labels
