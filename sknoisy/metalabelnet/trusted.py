"""The trusted set: checked once, and drawn in batches that mirror its classes."""

from dataclasses import dataclass

import numpy as np
import torch
from skorch.utils import to_device
from torch import Tensor
from torch.nn.functional import cross_entropy

from sknoisy.functional import at_least_float32
from sknoisy.neighbor_noise import highest_noise_rate_near
from sknoisy.training.data import RowDataset
from sknoisy.training.net import as_inputs, as_training_inputs
from sknoisy.user_warnings import warn

APPENDED = 8  # one trusted row to so many of the batch: the step's cost stays near 3.5


@dataclass
class TrustedRows:
    """Rows whose labels are right.

    Attributes
    ----------
    X : ndarray of shape (n_meta, ...) or CSR matrix
        Inputs.
    labels : ndarray of shape (n_meta,)
        Class numbers.
    indices : ndarray of shape (n_meta,) or None
        Which rows of the training data they are; None: none of them.
    """

    X: object
    labels: np.ndarray
    indices: np.ndarray | None = None

    def neighbor_bound(self, X, given: Tensor, weights: Tensor, priors: Tensor) -> float:
        """Return an upper bound of the noise rate of the given labels of X, by the nearest rows.

        Of the class `priors` (C,); trusted rows themselves do not count.
        """
        weights = weights.cpu().clone()
        if self.indices is not None:
            weights[torch.as_tensor(self.indices)] = 0
        return highest_noise_rate_near(
            self.X,
            self.labels,
            X,
            given.numpy(force=True),
            weights[: len(given)],
            priors.numpy(force=True),
        )


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

    Any stretch of it then holds the classes in about the proportions of the whole set.
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


def small_losses(losses: Tensor, labels: Tensor, fraction: float, most: int) -> Tensor:
    """Return the rows of lowest loss of each class: a `fraction`, at least 1, at most `most`."""
    chosen = []
    for label in labels.unique():
        members = (labels == label).nonzero().flatten()
        count = min(most, max(1, int(fraction * len(members))))
        chosen.append(members[losses[members].argsort()[:count]])
    return torch.cat(chosen)


def select_rows(criterion, train_rows: Tensor, losses: Tensor) -> Tensor:
    """Return the rows to trust where none were given, by `small_losses` of all rows (n,).

    Of the training rows those that have a label, and a weight if any has one.
    """
    table = criterion.targets
    rows = train_rows[table[train_rows].sum(dim=1).cpu() > 0]
    weights = criterion.weights_of(rows)
    if weights is not None and (weights > 0).any():
        rows = rows[weights.cpu() > 0]
    given = table[rows].argmax(dim=1).cpu()
    return rows[small_losses(losses.cpu()[rows], given, 0.1, 50)]


class TrustedSet:
    """Trusted rows in a fit: their labels in the table, and the batches that are drawn of them.

    Parameters
    ----------
    X : array-like of shape (n_meta, ...) or CSR matrix
        Inputs.
    labels : Tensor of shape (n_meta,)
        Class numbers.
    first : int
        Row of the table where their labels begin.
    meta_batch_size : int
        Rows of a virtual step.
    batch_size : int or None
        Rows of a training batch, to each of which an eighth as many trusted rows are appended; -1
        for all rows, and then all trusted ones; None appends none.
    """

    def __init__(self, X, labels: Tensor, first: int, meta_batch_size: int, batch_size: int | None):
        self.data = RowDataset(X, labels.numpy())
        self.first = first
        self.meta_batches = TrustedBatches(labels, meta_batch_size)
        self.appended = None
        if batch_size is not None:
            size = max(1, batch_size // APPENDED) if batch_size > 0 else len(labels)
            self.appended = TrustedBatches(labels, size)

    def __len__(self):
        return len(self.data)

    @property
    def n_appended(self) -> int:
        """Number of trusted rows at the end of each training batch."""
        return 0 if self.appended is None else self.appended.size

    def batch(self, net, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """Return inputs and class numbers of trusted rows, as the network sees them in training."""
        X, labels = self.data.__getitems__(numbers.numpy())
        return as_training_inputs(net, X), to_device(labels, net.device)

    def meta_batch(self, net) -> tuple[Tensor, Tensor]:
        """Return the inputs and class numbers of the next virtual step."""
        return self.batch(net, self.meta_batches.draw())

    def append_to(self, net, batch: list) -> None:
        """Append trusted rows to a training batch."""
        if self.appended is None:
            return
        numbers = self.appended.draw()
        X, _ = self.batch(net, numbers)
        batch[0] = torch.cat([as_inputs(batch[0], net.device), X])
        batch[1] = torch.cat([batch[1], self.first + numbers])

    def score(self, net) -> tuple[float, float]:
        """Return the network's accuracy and cross-entropy on the trusted rows."""
        logits = torch.cat(list(net.forward_iter(self.data, device=net.device)))
        labels = to_device(torch.from_numpy(self.data.rows), net.device)
        accuracy = (logits.argmax(dim=1) == labels).float().mean().item()
        return accuracy, cross_entropy(at_least_float32(logits), labels).item()

    def state_dict(self) -> dict:
        """Return the rows that are still to be drawn."""
        appended = None if self.appended is None else self.appended.waiting
        return {"meta": self.meta_batches.waiting, "appended": appended}

    def load_state_dict(self, state: dict) -> None:
        """Go on drawing where `state_dict` was taken."""
        self.meta_batches.waiting = state["meta"]
        if self.appended is not None:
            self.appended.waiting = state["appended"]


def warn_if_cut(meta_X, n_samples):
    """Warn where meta_X is as long as X: cross-validation would slice it."""
    if meta_X is None or isinstance(meta_X, tuple) or not hasattr(meta_X, "__len__"):
        return
    length = meta_X.shape[0] if hasattr(meta_X, "shape") else len(meta_X)
    if length == n_samples:
        warn(
            f"meta_X has as many rows as X, {length}: scikit-learn's cross-validation would"
            " cut it to each fold. Pass 1-tuples, meta_X=(meta_X,) and meta_y=(meta_y,), which"
            " are never cut.",
        )
