"""Several labels a row: shares of votes, counts, or the probabilities of a label model."""

from dataclasses import dataclass

import numpy as np

from sknoisy.columns import numbers_of, read_columns
from sknoisy.labels import read_labels
from sknoisy.row_index import check_order

TIE = 1e-9  # sums in another order must not decide
OF_VOTES = "of votes pass sknoisy.crowd.CrowdLabels(votes).label_proba()"
NO_LABEL = "a row without any vote is NaN in every column"


def most_probable(table: np.ndarray) -> np.ndarray:
    """Return the largest column of each row (n_samples,); of equals a random one, always the same.

    The first of equals would be wrong in the same way in many rows.
    """
    is_most = table >= table.max(axis=1, keepdims=True) - TIE
    return (is_most * np.random.RandomState(0).uniform(0.5, 1, table.shape)).argmax(axis=1)


@dataclass(frozen=True)
class LabelProba:
    """A distribution over the classes for each row.

    Attributes
    ----------
    table : ndarray of shape (n_samples, n_classes)
        Rows sum to 1, or to 0 where there is no label.
    names : ndarray of shape (n_classes,) or None
        The classes of the columns, sorted; None: the order of the classes of y.
    """

    table: np.ndarray
    names: np.ndarray | None

    @classmethod
    def read(cls, label_proba, X) -> "LabelProba":
        """Return the `label_proba` of a fit on X, checked."""
        check_order("label_proba", label_proba, "X", X, numbers_count=True)
        table, names = read_columns(label_proba, "label_proba", OF_VOTES)
        n_samples = X.shape[0] if hasattr(X, "shape") else len(X)
        if table.ndim != 2 or len(table) != n_samples or table.shape[1] < 2:
            raise ValueError(
                "label_proba must have a row for each row of X and a column for each class, two or"
                f" more, got shape {table.shape} and {n_samples} rows of X; labels in one column"
                " are y, and sknoisy.crowd.CrowdLabels makes shares of several people's labels."
            )
        table = normalized(table)
        if names is None:
            return cls(table, None)
        return cls.by_name(table, read_labels(names, "the columns of label_proba"))

    @classmethod
    def by_name(cls, table, names) -> "LabelProba":
        """Return a table with its columns in the order of their names (n_classes,)."""
        order = np.argsort(names, kind="stable")
        names = names[order]
        if (names[1:] == names[:-1]).any():
            raise ValueError(f"label_proba must have a column a class, got {names.tolist()[:10]}.")
        return cls(table[:, order], names)

    def named_as(self, classes: np.ndarray) -> "LabelProba":
        """Return it with names of the type of the classes of y: polars has no other than texts."""
        if self.names is None or self.names.dtype.kind != "U" or classes.dtype.kind not in "iub":
            return self
        values = numbers_of(self.names.tolist(), classes)
        return self if values is None else LabelProba.by_name(self.table, np.array(values))

    @property
    def has_label(self) -> np.ndarray:
        """Which rows have a distribution, bool (n_samples,)."""
        return self.table.any(axis=1)

    def most_probable(self) -> np.ndarray:
        """Return the most probable class of each row."""
        numbers = most_probable(self.table)
        return numbers if self.names is None else self.names[numbers]

    def unless_one_hot(self, labels: np.ndarray) -> np.ndarray | None:
        """Return the table, or None where it says no more than the class numbers (n_samples,)."""
        is_hot = self.table[np.arange(len(labels)), labels] == 1
        return None if is_hot.all() else self.table

    def classes_with(self, classes: np.ndarray) -> np.ndarray:
        """Return the classes (n_classes,) of the columns, given those of y, which are among them.

        Columns without a name are the classes of y, or, where they are more, y holds their numbers.
        """
        width, names = self.table.shape[1], self.names
        if names is None:
            are_numbers = classes.dtype.kind in "iu" and classes[0] >= 0 and classes[-1] < width
            if width == len(classes):
                return classes
            if are_numbers:
                return np.arange(width, dtype=classes.dtype)
            raise ValueError(
                f"label_proba must have a column for each class of y, got {width} columns and"
                f" {len(classes)} classes, {classes.tolist()[:10]}; pass a frame whose columns are"
                " the classes."
            )
        missing = [label for label in classes.tolist() if label not in names.tolist()]
        if missing:
            raise ValueError(
                f"label_proba must have a column for each class of y, got none for {missing[0]!r};"
                f" its columns are {names.tolist()[:10]}. Where y has numbers of the classes, as"
                " of cross_val_predict(method='predict_proba'), pass label_proba.to_numpy()."
            )
        return classes if len(names) == len(classes) else names


def normalized(table: np.ndarray) -> np.ndarray:
    """Return rows divided by their sums; zeros for rows of NaN.

    Raises
    ------
    ValueError
        That names the first row which is no distribution, nor counts.
    """
    is_nan = np.isnan(table)
    total = table.sum(axis=1)
    for is_bad, rule, out in (
        (
            is_nan.any(axis=1) & ~is_nan.all(axis=1),
            "numbers, or NaN in a whole row",
            f"{NO_LABEL}, a class without votes is 0; sknoisy.crowd.CrowdLabels makes shares of"
            " votes",
        ),
        ((table < 0).any(axis=1), "probabilities or counts, at least 0", "of logits pass softmax"),
        (np.isinf(total), "finite numbers", "divide each row by its sum"),
        (total == 0, "rows with a positive sum", NO_LABEL),
    ):
        if is_bad.any():
            row = np.flatnonzero(is_bad)[0]
            raise ValueError(
                f"label_proba must hold {rule}, got {table[row].tolist()[:10]} in row {row}; {out}."
            )
    if is_nan.all():
        raise ValueError("label_proba must hold a distribution for some row, got NaN in all.")
    return np.nan_to_num(table / total[:, None])
