"""What may go into an estimator: arrays, images, Datasets, labels and weights."""

import numpy as np
import torch
from sklearn.preprocessing import LabelEncoder
from sklearn.utils import check_array, check_consistent_length, column_or_1d
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import validate_data

from sknoisy.training.data import stored_type
from sknoisy.training.datasets import DatasetRows, as_array, is_dataset


class InputChecks:
    """Checks of an estimator's rows, labels and weights, and the shape that rows had in fit."""

    def _validate(self, X, y="no_validation", *, reset):
        if is_dataset(X):
            checked = self._validate_dataset(X, y, reset)
        else:
            checked = self._validate_array(X, y, reset)
        rows = checked[0] if reset else checked
        if reset:
            self._row_shape, self._row_type = rows.shape[1:], stored_type(rows)
        else:
            self._refuse_other_rows(rows)
        return checked

    def _refuse_other_rows(self, rows):
        """Raise unless the rows have the shape and the scale of those in fit."""
        if rows.shape[1:] != self._row_shape:
            raise ValueError(
                f"X must have rows of shape {self._row_shape}, as in fit, got {rows.shape[1:]}."
            )
        if self._row_type != np.uint8 and stored_type(rows) == np.uint8:
            raise ValueError(
                "X must hold floats as in fit, got uint8 images, which would be scaled to [0, 1];"
                " pass X / 255 if fit had that scale, or else X.astype(np.float32)."
            )
        if self._row_type == np.uint8 and stored_type(rows) != np.uint8:
            highest = (rows[:64] if isinstance(rows, DatasetRows) else rows).max()
            if highest > 2:
                raise ValueError(
                    f"X must hold uint8 images as in fit, or floats in [0, 1], got numbers up to"
                    f" {highest:g}; pass X.astype(np.uint8), or divide by 255."
                )

    def _validate_array(self, X, y, reset):
        if isinstance(X, torch.Tensor):
            X = as_array(X)
        n_dims = count_dimensions(X)
        if n_dims > 2:
            X = self._validate_shape(X if isinstance(X, np.ndarray) else np.asarray(X), reset)
        # Batches are converted one at a time: a memory map stays on disk, images stay uint8.
        is_kept = isinstance(X, np.memmap) or getattr(X, "dtype", None) == np.uint8
        if not (is_kept and (n_dims > 2 or isinstance(X, np.memmap))):
            dtypes = np.float32
        else:
            dtypes = [np.float32, np.uint8, np.float16, np.float64]
        try:
            checked = validate_data(
                self, X, y, reset=reset, dtype=dtypes, accept_sparse="csr", allow_nd=True
            )
        except ValueError as error:
            if "could not convert" not in str(error):
                raise
            raise ValueError(
                f"X must hold numbers only, got {error}; encode the other columns first, with"
                " OneHotEncoder, OrdinalEncoder or TfidfVectorizer in a Pipeline."
            ) from error
        return checked

    def _validate_shape(self, X, reset):
        """Return images with a channel; raise where scikit-learn would speak of features."""
        if X.ndim == 3 and self._builds_network():
            X = X[:, None]
        self._refuse_channels_last(X)
        if not reset and X.shape[1:] != self._row_shape:
            raise ValueError(
                f"X must have rows of shape {self._row_shape}, as in fit, got {X.shape[1:]}."
            )
        return X

    def _validate_dataset(self, dataset, y, reset):
        rows = DatasetRows(dataset, add_channel=self._builds_network())
        if not reset:
            return rows
        self._refuse_channels_last(rows)
        for name in ("n_features_in_", "feature_names_in_"):  # of an earlier fit on an array
            vars(self).pop(name, None)
        if y is None:
            y = rows.labels(self._num_workers())
        y = column_or_1d(y, warn=True)
        check_consistent_length(rows, y)
        return rows, y

    def _builds_network(self):
        return self.module is None or isinstance(self.module, str)

    def _refuse_channels_last(self, X):
        if X.ndim != 4 or X.shape[3] not in (1, 3, 4) or X.shape[1] in (1, 3, 4):
            return
        if X.dtype == np.uint8 or self._builds_network():
            raise ValueError(
                f"X must have shape (n, channels, height, width), got {X.shape}, which looks like"
                " (n, height, width, channels); pass X.transpose(0, 3, 1, 2)."
            )

    def _validate_fit(self, X, y):
        """Return X as float32 and y as class numbers; set `classes_`."""
        self._check_params()
        X, y = self._validate(X, plain_labels(y), reset=True)
        try:
            check_classification_targets(y)
            encoder = LabelEncoder().fit(y)
        except TypeError as error:
            raise ValueError(
                f"y must hold labels of one type, none of them missing, got {error}."
            ) from error
        self.classes_ = encoder.classes_
        if len(self.classes_) < 2:
            raise ValueError(
                f"y must have at least 2 classes, got 1 class: {self.classes_.tolist()[0]!r}."
            )
        return X, encoder.transform(y)

    def _row_weights(self, labels, sample_weight):
        """Return the weight of each row, 1 on average, or None for equal ones."""
        if sample_weight is None and self.class_weight is None:
            return None
        weights = np.ones(len(labels))
        if sample_weight is not None:
            try:
                weights = check_array(
                    sample_weight, ensure_2d=False, dtype=np.float64, input_name="sample_weight"
                )
            except (TypeError, ValueError) as error:
                raise ValueError(
                    f"sample_weight must be one finite number a row of X: {error}"
                ) from error
            if weights.shape != labels.shape:
                raise ValueError(
                    f"sample_weight must have one number a row of X, {labels.shape}, got"
                    f" {weights.shape}."
                )
            if weights.min() < 0:
                raise ValueError(f"sample_weight must not be negative, got {weights.min():g}.")
        if self.class_weight is not None:
            weights = weights * self._class_weights(labels)[labels]
        if not 0 < weights.sum() < np.inf:
            raise ValueError(
                f"sample_weight, times class_weight, must have a positive finite sum, got"
                f" {weights.sum():g}; not every weight may be zero, and none so large."
            )
        return torch.from_numpy(weights / weights.mean())

    def _class_weights(self, labels):
        is_balanced = isinstance(self.class_weight, str) and self.class_weight == "balanced"
        if not (is_balanced or isinstance(self.class_weight, dict)):
            raise ValueError(
                f"class_weight must be None, 'balanced' or a dict, got {self.class_weight!r}."
            )
        try:
            weights = compute_class_weight(
                self.class_weight, classes=self.classes_, y=self.classes_[labels]
            )
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"class_weight must give a number to labels of y, {self.classes_.tolist()}, got"
                f" {self.class_weight!r}: {error}"
            ) from error
        if not (np.isfinite(weights).all() and weights.min() >= 0):
            raise ValueError(f"class_weight must be finite and not negative, got {weights}.")
        return weights


def count_dimensions(X):
    """Return how many dimensions X has, without making an array of it."""
    nested = 0
    while isinstance(X, list | tuple) and X:
        X, nested = X[0], nested + 1
    return nested + getattr(X, "ndim", 0)


def plain_labels(y):
    """Return labels of a nullable pandas type, none of them missing, as numpy's own type.

    And numpy's strings of any length as those of one length, which scikit-learn knows.
    """
    if isinstance(y, np.ndarray) and y.dtype.kind == "T":
        return y.astype(str)
    plain = getattr(getattr(y, "dtype", None), "numpy_dtype", None)
    if plain is None or not hasattr(y, "to_numpy") or y.isna().any():
        return y
    return y.to_numpy(dtype=plain)
