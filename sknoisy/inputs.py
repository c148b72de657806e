"""What may go into an estimator: arrays, images, Datasets, labels and weights."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.exceptions import DTypePromotionError
from scipy import sparse
from sklearn.preprocessing import LabelEncoder
from sklearn.utils import (
    assert_all_finite,
    check_consistent_length,
    column_or_1d,
)
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import validate_data
from torch.utils.data import DataLoader

from sknoisy.columns import check_numbered
from sknoisy.label_proba import LabelProba
from sknoisy.labels import read_given_labels
from sknoisy.networks.mlp import MLP
from sknoisy.networks.standardize import rounds_in_float32
from sknoisy.row_index import check_order
from sknoisy.rows import DoubleRows, stored_type
from sknoisy.training.datasets import DatasetRows, as_array, is_dataset
from sknoisy.training.net import resolve_device
from sknoisy.weights import row_weights, weights_by_class


@dataclass(frozen=True)
class RowFormat:
    """The shape and type of rows, the same in fit and in prediction.

    Attributes
    ----------
    shape : tuple of int
        Of a row.
    dtype : type
        np.uint8 for images that are scaled to [0, 1], np.float64 for a table that float32 would
        round too much, see `rounds_in_float32`, else np.float32.
    lacks_channel : bool
        Whether fit got grayscale images of shape (n, height, width).
    """

    shape: tuple
    dtype: type
    lacks_channel: bool = False

    @classmethod
    def of(cls, rows, given) -> "RowFormat":
        """Return the format of checked rows, which the user gave as `given`."""
        lacks_channel = 2 < count_dimensions(given) < rows.ndim
        return cls(rows.shape[1:], stored_type(rows), lacks_channel)

    def check_shape(self, rows) -> None:
        """Raise unless rows have this shape."""
        if rows.shape[1:] != self.shape:
            raise ValueError(
                f"X must have rows of shape {self.shape}, as in fit, got {rows.shape[1:]}."
            )

    def check(self, rows) -> None:
        """Raise unless rows have this shape and scale."""
        self.check_shape(rows)
        if self.dtype != np.uint8 and stored_type(rows) == np.uint8:
            raise ValueError(
                "X must hold floats as in fit, got uint8 images, which would be scaled to [0, 1];"
                " pass X / 255 if fit had that scale, or else X.astype(np.float32)."
            )
        if self.dtype == np.uint8 and stored_type(rows) != np.uint8:
            highest = (rows[:64] if isinstance(rows, DatasetRows) else rows).max()
            if highest > 2:
                raise ValueError(
                    f"X must hold uint8 images as in fit, or floats in [0, 1], got numbers up to"
                    f" {highest:g}; pass X.astype(np.uint8), or divide by 255."
                )


@dataclass(frozen=True)
class TrainingData:
    """What a fit trains on, checked: it travels from the user's X and y to the net.

    Attributes
    ----------
    X : ndarray, CSR matrix or set of rows of shape (n_rows, ...)
        All inputs; rows without a label come last.
    labels : ndarray of shape (n_labels,)
        Class numbers of the rows that have one: the first ones.
    classes : ndarray of shape (n_classes,)
        The classes, sorted.
    weights : Tensor of shape (n_labels,) or None
        What each of these rows weighs, 1 on average.
    sample_weights : Tensor of shape (n_labels,) or None
        The same without the factors of the classes.
    class_weights : Tensor of shape (n_classes,) or None
        These factors.
    label_proba : Tensor of shape (n_labels, n_classes) or None
        The soft labels to begin with; zeros for rows without a label, which weigh 0. None: one-hot
        ones.
    extra : dict of str to list
        What else a method was given, under the name that errors call it by: arrays or rows.
    """

    X: object
    labels: np.ndarray
    classes: np.ndarray
    weights: torch.Tensor | None
    sample_weights: torch.Tensor | None = None
    class_weights: torch.Tensor | None = None
    label_proba: torch.Tensor | None = None
    extra: dict = field(default_factory=dict)

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        return len(self.classes)

    @property
    def given(self) -> torch.Tensor:
        """The labels: class numbers (n_labels,), or distributions (n_labels, n_classes)."""
        return torch.from_numpy(self.labels) if self.label_proba is None else self.label_proba

    @property
    def given_prior(self) -> torch.Tensor:
        """The fraction of the labeled rows (C,) that each class is given, as the rows weigh."""
        if self.label_proba is None:
            counts = np.bincount(self.labels, self.sample_weights, self.n_classes)
        elif self.sample_weights is None:
            counts = self.label_proba.numpy().sum(axis=0)
        else:
            counts = self.sample_weights.numpy() @ self.label_proba.numpy()
        return torch.from_numpy(counts / counts.sum())

    def write_given(self, table: torch.Tensor) -> None:
        """Write the labels into a table (n_labels, n_classes) of zeros, as distributions."""
        if self.label_proba is None:
            table[torch.arange(len(table)), torch.from_numpy(self.labels)] = 1
        else:
            table.copy_(self.label_proba)

    def by_name(self) -> dict[str, list]:
        """Return everything, under the names that errors call it by."""
        weights = None if self.weights is None else self.weights.numpy()
        return {
            "X": [self.X],
            "y": [np.asarray(self.classes[self.labels]).astype(str)],
            "label_proba": [self.label_proba],
            "sample_weight or class_weight": [weights],
            **self.extra,
        }


def read_training_data(estimator, X, y, sample_weight, label_proba=None) -> TrainingData:
    """Return X, y and weights, checked; sets the estimator's `n_features_in_` as scikit-learn does.

    X becomes float32, y class numbers.
    """
    refuse_containers(X)
    check_order("y", y, "X", X)
    check_order("sample_weight", sample_weight, "X", X)
    y = None if y is None else read_given_labels(y, label_proba)
    soft = None if label_proba is None else LabelProba.read(label_proba, X)
    if y is None and soft is not None and not (is_dataset(X) and DatasetRows(X).has_labels):
        y = soft.most_probable()
    read = _read_dataset if is_dataset(X) else _read_array
    rows, y = read(estimator, X, y)
    check_classification_targets(y)
    classes = LabelEncoder().fit(y).classes_
    has_label = None
    if soft is not None:
        check_numbered(label_proba, classes, "label_proba")
        soft = soft.named_as(classes)  # texts sort in another order than numbers
        classes, has_label = soft.classes_with(classes), soft.has_label
    if len(classes) < 2:
        raise ValueError(f"y must have at least 2 classes, got 1 class: {classes.tolist()[0]!r}.")
    labels = np.searchsorted(classes, y)
    class_weights = None
    if estimator.class_weight is not None:
        counted = labels if has_label is None else labels[has_label]
        class_weights = weights_by_class(counted, classes, estimator.class_weight)
    sample_weights = row_weights(labels, sample_weight, None, has_label)
    weights = sample_weights
    if class_weights is not None:
        weights = row_weights(labels, sample_weight, class_weights, has_label)
        class_weights = torch.from_numpy(class_weights)
    table = None if soft is None else soft.unless_one_hot(labels)
    table = None if table is None else torch.from_numpy(table)
    return TrainingData(rows, labels, classes, weights, sample_weights, class_weights, table)


def read_rows(estimator, X, row_format: RowFormat, name="X"):
    """Return rows to predict, or others like those of fit, checked; errors call them `name`."""
    refuse_containers(X)
    try:
        if is_dataset(X):
            rows = DatasetRows(X, add_channel=builds_network(estimator))
        else:
            rows = _read_array(estimator, X, row_format=row_format)
        row_format.check(rows)
    except ValueError as error:
        if name == "X":
            raise
        raise ValueError(
            f"{name} must be rows like those of X: {error} In a Pipeline, make_noisy_pipeline has"
            f" its steps transform {name} too."
        ) from error
    return rows


def refuse_containers(X) -> None:
    """Raise for what holds rows, or names them, but is no set of them."""
    kind = type(X).__name__
    if isinstance(X, DataLoader):
        out = "pass loader.dataset"
    elif isinstance(X, Mapping) and not sparse.issparse(X):  # scipy's dok is one
        out = "pass one array, such as numpy.hstack(list(X.values()))"
    elif isinstance(X, str | Path):
        out = "read it first, with numpy.load, pandas.read_csv or torchvision.datasets.ImageFolder"
    elif type(X).__module__.partition(".")[0] == "datasets":  # Hugging Face's
        out = "pass its columns as arrays, such as numpy.stack(ds['image']), and y=ds['label']"
    else:
        return
    raise TypeError(
        f"X must be an array, a frame, a CSR matrix or a torch Dataset, got {kind}; {out}."
    )


def read_held_out(row_format: RowFormat, classes, add_channel, n_workers, dataset):
    """Return the rows of a Dataset that are held out, checked, and their class numbers."""
    try:
        rows = DatasetRows(dataset, add_channel=add_channel)
        row_format.check(rows)
        labels = rows.labels(n_workers, classes)
    except ValueError as error:
        raise ValueError(f"train_split must hold out rows like those of X: {error}") from error
    numbers = np.searchsorted(classes, labels).clip(max=len(classes) - 1)
    unknown = labels[classes[numbers] != labels]
    if len(unknown):
        raise ValueError(
            f"train_split must hold out rows with labels of y, {classes[:10].tolist()}, got"
            f" {unknown.tolist()[0]!r}."
        )
    return rows, numbers


def builds_network(estimator) -> bool:
    """Return whether the library builds the network, by default or from a name."""
    return estimator.module is None or isinstance(estimator.module, str)


def standardizes_tables(estimator) -> bool:
    """Return whether the network begins with `Standardize`, where it can compute in float64."""
    is_mlp = estimator.module is None or estimator.module is MLP
    return is_mlp and resolve_device(estimator.device).type != "mps"


def num_workers(estimator) -> int:
    """Return the number of processes that read batches."""
    return estimator.skorch_params.get("iterator_train__num_workers", 0)


def _read_array(estimator, X, y="no_validation", row_format=None):
    """Return rows, in fit with y, checked by scikit-learn; `row_format` is that of fit."""
    if isinstance(X, torch.Tensor):
        X = as_array(X)
    n_dims = count_dimensions(X)
    if n_dims > 2:
        X = X if isinstance(X, np.ndarray) else np.asarray(X)
        if X.ndim == 3 and builds_network(estimator):
            X = X[:, None]
        _refuse_channels_last(estimator, X)
        if row_format is not None:  # before scikit-learn would speak of features
            row_format.check_shape(X)
    # Batches are converted one at a time: a memory map stays on disk, images stay uint8.
    is_map = isinstance(X, np.memmap)
    may_be_double = n_dims == 2 and not sparse.issparse(X) and standardizes_tables(estimator)
    if row_format is not None:
        may_be_double = row_format.dtype == np.float64
    if is_map or (n_dims > 2 and getattr(X, "dtype", None) == np.uint8):
        dtypes = [np.float32, np.uint8, np.float16, np.float64]
    else:
        dtypes = [np.float64, np.float32] if may_be_double else np.float32
    try:
        found = validate_data(
            estimator,
            X,
            y,
            reset=row_format is None,
            dtype=dtypes,
            accept_sparse="csr",
            allow_nd=True,
        )
        rows = found[0] if row_format is None else found
        if may_be_double and (row_format is not None or rounds_in_float32(rows)):
            rows = DoubleRows(rows.astype(np.float64, copy=False))
        elif rows.dtype == np.float64 and not is_map:
            rows = rows.astype(np.float32)
            assert_all_finite(rows, input_name="X")
        return rows if row_format is not None else (rows, found[1])
    except DTypePromotionError as error:  # numpy's, of dates beside numbers
        dates = [name for name, dtype in getattr(X, "dtypes", {}).items() if dtype.kind in "mM"]
        raise ValueError(
            f"X must hold numbers only, got dates or times in {dates[:10]}; leave them out, or make"
            " numbers of them, such as X[name].dt.year."
        ) from error
    except ValueError as error:
        if "could not convert" not in str(error):
            raise
        raise ValueError(
            f"X must hold numbers only, got {error}; encode the other columns first, with"
            " OneHotEncoder, OrdinalEncoder or TfidfVectorizer in a Pipeline."
        ) from error


def _read_dataset(estimator, dataset, y):
    """Return the rows of a Dataset and their labels, `y` or its own."""
    rows = DatasetRows(dataset, add_channel=builds_network(estimator))
    _refuse_channels_last(estimator, rows)
    for name in ("n_features_in_", "feature_names_in_"):  # of an earlier fit on an array
        vars(estimator).pop(name, None)
    y = rows.labels(num_workers(estimator)) if y is None else y
    y = column_or_1d(y, warn=True)
    check_consistent_length(rows, y)
    return rows, y


def _refuse_channels_last(estimator, X):
    if X.ndim != 4 or X.shape[3] not in (1, 3, 4) or X.shape[1] in (1, 3, 4):
        return
    if X.dtype == np.uint8 or builds_network(estimator):
        raise ValueError(
            f"X must have shape (n, channels, height, width), got {X.shape}, which looks like"
            " (n, height, width, channels); pass X.transpose(0, 3, 1, 2)."
        )


def count_dimensions(X):
    """Return how many dimensions X has, without making an array of it."""
    nested = 0
    while isinstance(X, list | tuple) and X:
        X, nested = X[0], nested + 1
    return nested + len(getattr(X, "shape", ()))  # of polars' frames as well
