"""Trusted rows: checked once, and drawn in batches that mirror their classes."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sknoisy.user_warnings import warn


@dataclass
class TrustedRows:
    """Rows whose labels are right.

    Attributes
    ----------
    X : ndarray of shape (n_meta, ...) or CSR matrix
        Inputs.
    labels : ndarray of shape (n_meta,)
        Class numbers.
    """

    X: object
    labels: np.ndarray


def unpack(value):
    """Return the element of a 1-tuple, which scikit-learn hands on whole, or the value itself."""
    if isinstance(value, tuple) and len(value) == 1:
        return value[0]
    return value


def check_meta_labels(meta_y, classes) -> np.ndarray:
    """Return `meta_y` as class numbers; each class must be there, and no other.

    Raises
    ------
    ValueError
        That names the label which is missing or unknown.
    """
    meta_y = np.asarray(meta_y)
    if meta_y.ndim != 1:
        raise ValueError(f"meta_y must have one dimension, got shape {meta_y.shape}.")
    position = {label: k for k, label in enumerate(classes.tolist())}
    given = meta_y.tolist()
    unknown = [label for label in given if label not in position]
    if unknown:
        raise ValueError(
            f"meta_y must hold labels of y, got {unknown[0]!r}; y has {classes.tolist()}."
        )
    missing = [label for label in position if label not in set(given)]
    if missing:
        raise ValueError(
            f"meta_y must hold each class of y at least once, got none of {missing[0]!r}; a class"
            " without trusted rows would not be learned."
        )
    return np.array([position[label] for label in given])


def check_mask(trusted, labels, classes) -> np.ndarray:
    """Return the rows that a boolean mask trusts; each class must be among them."""
    mask = np.asarray(trusted)
    if mask.dtype != bool or mask.shape != labels.shape:
        raise ValueError(
            f"trusted must be a boolean mask with one value a row of X, {labels.shape}, got"
            f" {mask.dtype} of shape {mask.shape}."
        )
    rows = np.flatnonzero(mask)
    missing = np.setdiff1d(np.arange(len(classes)), labels[rows])
    if len(missing):
        raise ValueError(
            f"trusted must be True for at least one row of each class, got"
            f" {len(rows)} True and none for {classes.tolist()[missing[0]]!r}; mark trusted rows"
            " of it, or leave its rows out."
        )
    return rows


def stratified_order(labels: Tensor) -> Tensor:
    """Return a random order of rows (n,) that spreads each class evenly over it.

    Any stretch of it then holds the classes in about the shares of the whole set.
    """
    place = torch.empty(len(labels), dtype=torch.float64)
    for label in labels.unique():
        members = (labels == label).nonzero().flatten()
        shuffled = torch.randperm(len(members)) + torch.rand(len(members), dtype=torch.float64)
        place[members] = shuffled / len(members)
    return place.argsort()


class TrustedBatches:
    """Batches of trusted rows without end, pass after pass in a new `stratified_order`.

    A batch may span two passes, so no row is left out; a set smaller than a batch comes whole.
    """

    def __init__(self, labels: Tensor, size: int):
        self.labels = labels
        self.size = min(size, len(labels))
        self.waiting = stratified_order(labels)

    def draw(self) -> Tensor:
        """Return the rows (size,) of the next batch."""
        if len(self.waiting) < self.size:
            self.waiting = torch.cat([self.waiting, stratified_order(self.labels)])
        drawn, self.waiting = self.waiting[: self.size], self.waiting[self.size :]
        return drawn


def lowest_losses(losses: Tensor, labels: Tensor, share: float, most: int) -> Tensor:
    """Return the rows of lowest loss of each class: a `share` of it, at least 1, at most `most`."""
    chosen = []
    for label in labels.unique():
        members = (labels == label).nonzero().flatten()
        count = min(most, max(1, int(share * len(members))))
        chosen.append(members[losses[members].argsort()[:count]])
    return torch.cat(chosen)


def warn_if_cut(meta_X, n_samples):
    """Warn where meta_X is as long as X: cross-validation would cut it."""
    if meta_X is None or isinstance(meta_X, tuple) or not hasattr(meta_X, "__len__"):
        return
    length = meta_X.shape[0] if hasattr(meta_X, "shape") else len(meta_X)
    if length == n_samples:
        warn(
            f"meta_X has as many rows as X, {length}: scikit-learn's cross-validation would"
            " cut it to each fold. Pass 1-tuples, meta_X=(meta_X,) and meta_y=(meta_y,), which"
            " are never cut.",
        )
