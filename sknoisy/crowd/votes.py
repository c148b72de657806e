"""Votes as users have them, wide or long, read to numbers of rows, annotators and classes."""

from dataclasses import dataclass
from numbers import Integral

import numpy as np

from sknoisy.issues import class_numbers
from sknoisy.labels import NESTED, label_is_missing, read_labels

EXACT = 2**53  # floats tell whole numbers apart up to here


@dataclass(frozen=True)
class Votes:
    """Who voted what for which row; all arrays are int64 of shape (n_votes,)."""

    rows: np.ndarray
    annotators: np.ndarray
    labels: np.ndarray
    n_rows: int
    n_annotators: int
    n_classes: int


def read_wide(votes, classes, missing):
    """Return Votes, the classes (C,) and the annotators' names (A,) of a table of votes."""
    cells = _cells(votes)
    if cells.ndim != 2 or 0 in cells.shape:
        raise ValueError(
            f"votes must have shape (n_samples, n_annotators), each at least 1, got {cells.shape}."
            " One label a row goes to fit as y; triples of row, annotator and label are read by"
            " CrowdLabels.from_long(rows, annotators, labels)."
        )
    is_vote = _is_vote(cells, missing)
    rows, annotators = np.nonzero(is_vote)
    labels, classes = _read_labels(cells[is_vote], classes)
    names = list(getattr(votes, "columns", range(cells.shape[1])))
    found = Votes(rows, annotators, labels, *cells.shape, len(classes))
    return found, classes, _as_array(names)


def read_long(rows, annotators, labels, index, classes, missing):
    """Return Votes, the classes (C,) and the annotators' names (A,) of triples."""
    cells, rows = _cells(labels), _listed(rows)
    named = np.asarray(read_labels(annotators, "annotators"))
    if not (cells.shape == named.shape == (len(rows),)):
        raise ValueError(
            "rows, annotators and labels must have the same shape (n_votes,), got"
            f" {np.shape(rows)}, {named.shape} and {cells.shape}; a table with a column for each"
            " annotator is read by CrowdLabels(votes)."
        )
    places, n_rows = _places(rows, index)
    names, numbers = np.unique(named, return_inverse=True)
    is_vote = _is_vote(cells, missing)
    labels, classes = _read_labels(cells[is_vote], classes)
    places, numbers = places[is_vote], numbers[is_vote]
    _refuse_repeated(places, numbers, names, np.flatnonzero(is_vote), rows)
    order = np.lexsort((numbers, places))  # as read from a wide table
    found = Votes(
        places[order], numbers[order], labels[order], n_rows, len(names), len(classes)
    )  # fmt: skip
    return found, classes, names


def _cells(values):
    """Return an array; of a list one of objects, since numpy would make text of 1 beside "a"."""
    if hasattr(values, "detach"):  # a tensor, perhaps of another device
        return values.detach().cpu().numpy()
    if hasattr(values, "columns") and "category" in map(str, values.dtypes):
        values = values.astype(object)  # numpy would make numbers of integers that are missing
    if not isinstance(values, list | tuple):
        return values if isinstance(values, np.ma.MaskedArray) else np.asarray(values)
    try:
        return np.array(values, dtype=object)
    except ValueError as error:
        raise ValueError(f"votes must have rows of the same length, got {error}.") from error


def _is_vote(cells, missing):
    """Return whether each cell holds a vote, of the shape of the cells."""
    if cells.dtype == object:
        is_vote = ~np.frompyfunc(label_is_missing, 1, 1)(np.asarray(cells)).astype(bool)
    else:
        is_vote = np.asarray(cells == cells)  # NaN and NaT are unequal to themselves
    is_vote &= ~np.ma.getmaskarray(cells)
    if missing is not None and not label_is_missing(missing):
        found = np.asarray(cells)[is_vote]
        _check_missing(missing, found)
        is_vote[is_vote] = found != missing
    return is_vote


def _check_missing(missing, cells):
    """Raise unless a value may be equal to one of the cells (m,)."""
    are_texts = {isinstance(cell, str) for cell in (cells if cells.dtype == object else cells[:1])}
    if isinstance(missing, NESTED) or (are_texts and isinstance(missing, str) not in are_texts):
        raise ValueError(
            f"missing must be one label, of the type of the votes, such as {cells[:3].tolist()},"
            f" got {missing!r}."
        )


def _read_labels(labels, classes):
    """Return votes (m,) as numbers of classes, and the classes, sorted."""
    if len(labels) == 0:
        raise ValueError("votes must hold a vote, got none: all are missing, or equal to missing.")
    if labels.dtype == object:
        _refuse_nested(labels)
    labels = _whole(read_labels(np.asarray(labels), "votes"), "votes")
    if classes is None:
        classes, numbers = np.unique(labels, return_inverse=True)
        return numbers, classes
    if np.size(classes) == 0 or np.ndim(classes) != 1:
        raise ValueError(f"classes must hold all labels, such as ['ham', 'spam'], got {classes!r}.")
    classes = np.unique(_whole(read_labels(classes, "classes"), "classes"))
    return class_numbers(labels, classes, "votes"), classes


def _refuse_nested(labels):
    for label in labels:
        if isinstance(label, NESTED):
            raise ValueError(
                f"votes must hold one label a cell, got {label!r}; give each annotator a column."
            )


def _whole(labels, name):
    """Return floats as integers: pandas makes floats of integers where some are missing."""
    if labels.dtype.kind != "f":
        return labels
    labels = labels.astype(np.float64)
    is_whole = (abs(labels) <= EXACT) & (labels == np.rint(labels))
    if not is_whole.all():
        raise ValueError(
            f"{name} must hold labels, numbers only whole ones up to 2 ** 53, got"
            f" {labels[~is_whole][0]}; probabilities of the classes go to fit as label_proba."
        )
    return labels.astype(np.int64)


def _places(rows, index):
    """Return the position (m,) of each row in the index, and the number of rows."""
    if index is None:
        if not all(isinstance(row, Integral) and row >= 0 for row in rows):
            raise ValueError(
                f"rows must hold positions 0, 1, ... in X without index, got {rows[:3]}; pass"
                " index, the labels of the rows in the order of X, such as X.index."
            )
        return np.array(rows, dtype=np.int64), max(rows, default=-1) + 1
    labels = _listed(index)
    place = {label: k for k, label in enumerate(labels)}
    if len(place) < len(labels):
        raise ValueError("index must name each row of X once, got some labels of rows repeatedly.")
    unknown = [row for row in rows if row not in place]
    if unknown:
        raise ValueError(
            f"rows must be in index, got {unknown[0]!r}, {len(unknown)} of {len(rows)} are not;"
            " drop these votes, or pass the index of all rows."
        )
    return np.array([place[row] for row in rows], dtype=np.int64), len(labels)


def _listed(values):
    return values.tolist() if hasattr(values, "tolist") else list(values)


def _refuse_repeated(places, numbers, names, kept, rows):
    """Raise ValueError that names the first pair of row and annotator that occurs twice."""
    pairs = places * len(names) + numbers
    _, first, counts = np.unique(pairs, return_index=True, return_counts=True)
    if (counts > 1).any():
        k = first[counts > 1][0]
        raise ValueError(
            f"An annotator must vote once a row, got {counts[counts > 1][0]} votes of annotator"
            f" {names[numbers[k]]} for row {rows[kept[k]]}; keep one of them, for instance with"
            " pandas' drop_duplicates(['row', 'annotator'], keep='last')."
        )


def _as_array(names):
    """Return names (A,) as an array of their type, of several types or tuples as objects."""
    if len({type(name) for name in names}) == 1 and isinstance(names[0], str | Integral):
        return np.array(names)
    array = np.empty(len(names), dtype=object)
    for k, name in enumerate(names):
        array[k] = name
    return array
