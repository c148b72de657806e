"""The trusted set: checked once, and drawn in batches that mirror its classes."""

from dataclasses import dataclass

import numpy as np
import torch
from skorch.utils import to_device
from torch import Tensor
from torch.nn.functional import cross_entropy

from sknoisy.functional import at_least_float32
from sknoisy.inputs import read_rows
from sknoisy.labels import read_labels
from sknoisy.rows import stack_rows, take_rows
from sknoisy.training.data import RowDataset
from sknoisy.training.datasets import DatasetRows, is_dataset
from sknoisy.training.net import as_inputs, as_training_inputs
from sknoisy.training.ranks import ALONE, Alone
from sknoisy.user_warnings import listed, warn

MOST_NAMED = 30  # classes in a warning
SELECTED, MOST_SELECTED = 0.1, 50  # of a class's rows, by the predecessor of the paper
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

    def take(self, kept: np.ndarray) -> "TrustedRows | None":
        """Return those that a mask keeps; None for none."""
        rows = np.flatnonzero(kept)
        if not len(rows):
            return None
        indices = None if self.indices is None else self.indices[rows]
        return TrustedRows(take_rows(self.X, rows), self.labels[rows], indices)


def unpack(value):
    """Return the element of a 1-tuple, which scikit-learn hands on whole, or the value itself."""
    if isinstance(value, tuple) and len(value) == 1:
        return value[0]
    return value


def check_meta_labels(meta_y, classes) -> np.ndarray:
    """Return `meta_y` as class numbers.

    Raises
    ------
    ValueError
        That names the label which is missing, or which y does not have.
    """
    meta_y = np.asarray(read_labels(meta_y, "meta_y"))
    if meta_y.ndim != 1:
        raise ValueError(f"meta_y must have one dimension, got shape {meta_y.shape}.")
    position = {label: k for k, label in enumerate(classes.tolist())}
    given = meta_y.tolist()
    unknown = [label for label in given if label not in position]
    if unknown:
        raise ValueError(
            f"meta_y must hold labels of y, got {unknown[0]!r}; y has {classes.tolist()}."
        )
    return np.array([position[label] for label in given], dtype=np.int64)


def read_trusted(estimator, meta_X, meta_y, classes, row_format) -> TrustedRows:
    """Return `meta_X` and `meta_y`, or the pairs of a Dataset, checked against X and y of `fit`."""
    if meta_y is None and is_dataset(meta_X):
        meta_y = DatasetRows(meta_X).labels(classes=classes)
    for name, value, other in (("meta_X", meta_X, "meta_y"), ("meta_y", meta_y, "meta_X")):
        if value is None:
            raise ValueError(f"{name} must be given with {other}, got None; pass both.")
    meta_X = read_rows(estimator, meta_X, row_format, "meta_X")
    labels = check_meta_labels(meta_y, classes)
    if len(labels) != meta_X.shape[0]:
        raise ValueError(
            f"meta_X and meta_y must have the same length, got {meta_X.shape[0]} rows and"
            f" {len(labels)} labels."
        )
    return TrustedRows(meta_X, labels)


def check_mask(trusted, n_samples: int) -> np.ndarray:
    """Return the rows that a boolean mask trusts."""
    mask = np.asarray(trusted)
    if mask.dtype != bool or mask.shape != (n_samples,):
        raise ValueError(
            f"trusted must be a boolean mask with one value a row of X, {(n_samples,)}, got"
            f" {mask.dtype} of shape {mask.shape}; of numbers 0 and 1 pass trusted.astype(bool), of"
            " row numbers numpy.isin(numpy.arange(len(y)), rows), of a pandas column with missing"
            " values trusted.fillna(False).astype(bool)."
        )
    return np.flatnonzero(mask)


def check_labeled(indices: np.ndarray, label_proba: Tensor) -> None:
    """Raise where a trusted row has no label in a table (n_samples, C)."""
    without = indices[(label_proba[indices] == 0).all(dim=1).numpy()]
    if len(without):
        raise ValueError(
            f"trusted must be True for rows with a label only, got True for row {without[0]}, where"
            " label_proba is NaN; give that row 1 for its class and 0 for the others."
        )


def warn_of_classes(labels: np.ndarray, classes) -> None:
    """Warn of classes without trusted rows, by the class numbers of these."""
    missing = np.setdiff1d(np.arange(len(classes)), labels)
    if len(missing) == len(classes):
        warn(
            "No trusted rows were given: pass meta_X and meta_y, or trusted. Labels are corrected"
            " without them; in cross-validation StratifiedKFold(shuffle=True) keeps trusted rows in"
            " every fold.",
        )
    elif len(missing):
        warn(
            f"No trusted rows of {listed(classes[missing], MOST_NAMED)} were given: what y and"
            " predictions say of them stands."
        )


def joined_inputs(trusted: TrustedRows | None, X):
    """Return the inputs of trusted rows and, below them, others (n, ...)."""
    return X if trusted is None else stack_rows(trusted.X, X)


def class_weights(criterion, counted: Tensor, labels: Tensor) -> Tensor | None:
    """Return what a trusted row of each class (C,) counts, 1 on average over their labels (m,).

    For the classes to count as in the loss: by the criterion's priors and weights of classes, or by
    the fractions of the given labels, each of which counts as `counted` (n_table,) says.
    """
    prior = criterion.class_prior
    if prior is None:
        prior = criterion.count_given(counted[: len(criterion.given)])
    elif criterion.class_weights is not None:
        prior = prior * criterion.class_weights
    counts = labels.bincount(minlength=len(prior)).to(prior)
    weights = (prior / counts.clamp_min(1)).where(counts > 0, 0)
    total = (weights * counts).sum()
    return weights * counts.sum() / total if total > 0 else None


def stratified_order(labels: Tensor, rng: np.random.Generator) -> Tensor:
    """Return a random order of rows (n,) that spreads each class evenly over it.

    Any stretch of it then holds the classes in about the proportions of the whole set.
    """
    place = torch.empty(len(labels), dtype=torch.float64)
    for label in labels.unique():
        members = (labels == label).nonzero().flatten()
        shuffled = rng.permutation(len(members)) + rng.random(len(members))
        place[members] = torch.from_numpy(shuffled / len(members))
    return place.argsort()


class TrustedBatches:
    """Batches of trusted rows without end, pass after pass in a new `stratified_order`.

    A batch may span two passes, so no row is left out; a set smaller than a batch comes whole.
    """

    def __init__(self, labels: Tensor, size: int, rng: np.random.Generator):
        self.labels = labels
        self.rng = rng
        self.size = min(size, len(labels))
        self.fullness = self.size / size
        self.waiting = stratified_order(labels, rng)

    def draw(self) -> Tensor:
        """Return the rows (size,) of the next batch."""
        if len(self.waiting) < self.size:
            self.waiting = torch.cat([self.waiting, stratified_order(self.labels, self.rng)])
        drawn, self.waiting = self.waiting[: self.size], self.waiting[self.size :]
        return drawn


def selected_at_most(count: int) -> int:
    """Return how many of a class's `count` rows may stand in for trusted ones: a tenth, up to 50.

    But at least 1.
    """
    return min(MOST_SELECTED, max(1, int(SELECTED * count)))


def small_losses(losses: Tensor, labels: Tensor) -> Tensor:
    """Return the rows of lowest loss of each class, `selected_at_most` of each."""
    chosen = [torch.empty(0, dtype=torch.int64)]
    for label in labels.unique():
        members = (labels == label).nonzero().flatten()
        chosen.append(members[losses[members].argsort()[: selected_at_most(len(members))]])
    return torch.cat(chosen)


def select_rows(criterion, rows: Tensor, losses: Tensor) -> Tensor:
    """Return those of labeled rows (n,) to trust, by `small_losses` of all; a weight of 0 bars."""
    weights = criterion.weights_of(rows)
    if weights is not None and (weights > 0).any():
        rows = rows[weights.cpu() > 0]
    rows = rows[criterion.has_label(rows.to(criterion.given.device)).cpu()]
    given = criterion.given[rows.to(criterion.given.device)].cpu()
    return rows[small_losses(losses.cpu()[rows], given)]


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
    rng : numpy Generator
        Draws them.
    ranks : Ranks or Alone
        The processes that share the batches.
    """

    def __init__(
        self,
        X,
        labels: Tensor,
        first: int,
        meta_batch_size: int,
        batch_size: int | None,
        rng: np.random.Generator,
        ranks: Alone = ALONE,
    ):
        self.ranks = ranks
        self.data = RowDataset(X, labels.numpy())
        self.labels = labels
        self.first = first
        self.meta_batches = TrustedBatches(labels, meta_batch_size, rng)
        self.appended = None
        if batch_size is not None:
            size = max(1, batch_size // APPENDED) if batch_size > 0 else len(labels)
            self.appended = TrustedBatches(labels, size, rng)

    def __len__(self):
        return len(self.data)

    @property
    def fullness(self) -> tuple[float, float]:
        """How full the batches are, of a virtual step and of appended rows: 1, or less if few."""
        appended = 1.0 if self.appended is None else self.appended.fullness
        return self.meta_batches.fullness, appended

    @property
    def n_appended(self) -> int:
        """Number of trusted rows at the end of each training batch, or of this process's part."""
        return 0 if self.appended is None else len(range(self.appended.size)[self.part])

    @property
    def part(self) -> slice:
        """Which of the trusted rows of a batch are appended to this process's part of it."""
        return self.ranks.part(self.appended.size)

    def batch(self, net, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """Return inputs and class numbers of trusted rows, as the network sees them in training."""
        X, labels = self.data.__getitems__(numbers.numpy())
        return as_training_inputs(net, X), to_device(labels, net.device)

    def meta_batch(self, net) -> tuple[Tensor, Tensor]:
        """Return the inputs and class numbers of the next virtual step."""
        numbers = self.meta_batches.draw()
        return self.batch(net, numbers[self.ranks.part(len(numbers))])

    def append_to(self, net, batch: list) -> None:
        """Append trusted rows to a training batch."""
        if self.appended is None:
            return
        numbers = self.appended.draw()[self.part]
        X, _ = self.batch(net, numbers)
        batch[0] = torch.cat([as_inputs(batch[0], net.device), X])
        batch[1] = torch.cat([batch[1], self.first + numbers])

    def score(self, net) -> tuple[float, float]:
        """Return the network's accuracy and cross-entropy on the trusted rows."""
        logits = torch.cat(list(net.forward_iter(self.data, device=net.device)))
        labels = to_device(torch.from_numpy(self.data.rows), net.device)
        accuracy = (logits.argmax(dim=1) == labels).float().mean().item()
        return self.ranks.first((accuracy, cross_entropy(at_least_float32(logits), labels).item()))

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
