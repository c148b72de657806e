"""Tables with a column a class: an array, or a frame whose columns may be called by the classes."""

import re
import sys

import numpy as np
from scipy import sparse
from scipy.optimize import linear_sum_assignment

from sknoisy.user_warnings import warn


def read_columns(table, name: str, out="pass probabilities") -> tuple[np.ndarray, list | None]:
    """Return the numbers of a table, in float64 with NaN, and what its columns are called.

    They have no names in an array, nor in a frame whose columns are numbered. `out` is the way out
    of an error.
    """
    pandas = sys.modules.get("pandas")  # whoever has a frame has imported it
    names = list(getattr(table, "columns", []))
    try:
        if pandas is not None and isinstance(table, pandas.DataFrame):
            numbers = table.to_numpy(dtype=np.float64, na_value=np.nan)
        elif sparse.issparse(table):
            numbers = table.toarray().astype(np.float64)
        elif hasattr(table, "detach"):  # a tensor, perhaps of a type or device that numpy lacks
            numbers = table.detach().cpu().double().numpy()
        else:
            numbers = np.asarray(table, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must hold numbers, got {error}; {out}.") from error
    return numbers, names if names and names != list(range(len(names))) else None


def numbers_of(names: list, classes: np.ndarray) -> list | None:
    """Return what texts are as labels of the type of `classes`, None where some are none."""
    if classes.dtype.kind == "b":
        values = {str(value): value for value in (False, True)}
        return [values[name] for name in names] if values.keys() >= set(names) else None
    are_whole = all(re.fullmatch("-?[0-9]+", name) for name in names)
    return list(map(int, names)) if are_whole else None


def check_numbered(table, classes: np.ndarray, name: str) -> None:
    """Raise where columns are numbered and classes these numbers as texts, "10" before "2"."""
    columns = list(getattr(table, "columns", []))
    texts = [str(column) for column in columns]
    is_numbered = columns == list(range(len(columns)))
    if is_numbered and texts != classes.tolist() and set(texts) == set(classes.tolist()):
        raise ValueError(
            f"{name} must have columns called by the classes, texts such as"
            f" {classes.tolist()[:3]}, got numbers, which sort in another order; pass"
            f" {name}.rename(columns=str)."
        )


def warn_of_order(proba: np.ndarray, given: np.ndarray, classes: np.ndarray, name: str) -> None:
    """Warn where most class numbers (n,) are the most probable ones in another order of columns.

    And more of them than in this order by two standard errors of what chance would give.

    Parameters
    ----------
    proba : ndarray of shape (n, n_classes)
        Columns without names, taken to be those of `classes`.
    given, classes
        Class numbers, and the classes.
    name : str
        What the message calls `proba`.
    """
    n_classes = len(classes)
    pairs = proba.argmax(axis=1) * n_classes + given
    counts = np.bincount(pairs, minlength=n_classes**2).reshape(n_classes, n_classes)
    columns, labels = linear_sum_assignment(counts, maximize=True)
    hits = counts.trace(), counts[columns, labels].sum()
    if hits[0] < len(given) / 2 < hits[1] and hits[1] - hits[0] > 2 * len(given) ** 0.5:
        first, second = (f"{count / len(given):.0%}" for count in hits)
        warn(
            f"The columns of {name} are taken to be {classes.tolist()[:10]}: then the most probable"
            f" class is the label in {first} of the rows. In the order"
            f" {classes[labels].tolist()[:10]} it would be in {second}; pass a frame whose columns"
            " are the classes."
        )
