"""Labels as users have them: of one type, none missing, and of class numbers the names."""

from numbers import Integral, Number, Real

import numpy as np

MISSING_TYPES = ("NoneType", "NAType", "NaTType")  # pandas' are known by name, without pandas
NESTED = (list, tuple, dict, set, np.ndarray)
RULE = "must hold labels of one type, none of them missing"


def read_labels(y, name="y"):
    """Return labels as an ndarray of their plain type, or what is no array as it is.

    Nullable types of pandas become numpy's, as do objects that are numbers or booleans; numpy's
    strings of any length become those of one length, which scikit-learn knows. The shape stays.

    Raises
    ------
    ValueError
        That names the first missing label, or one of each type where there are several.
    """
    labels = np.asarray(y)
    if labels.ndim == 0:
        return y
    if isinstance(y, list | tuple) and not any(isinstance(label, NESTED) for label in y):
        check_objects(y, name)  # numpy would make text of 1 and nan beside "a"
    elif labels.dtype.kind in "OT":
        check_objects(labels.astype(object, copy=False).ravel().tolist(), name)
    is_missing = labels != labels  # NaN and NaT are unequal to themselves
    if isinstance(y, np.ma.MaskedArray):
        is_missing |= np.ma.getmaskarray(y)
    if is_missing.any():
        refuse_missing(labels.ravel(), is_missing.ravel(), name)
    first = labels.flat[0] if labels.size else None
    if labels.dtype.kind == "T" or (labels.dtype == object and isinstance(first, Real | np.bool_)):
        labels = np.array(labels.tolist())
    plain = getattr(getattr(y, "dtype", None), "numpy_dtype", labels.dtype)
    return labels.astype(plain, copy=False)  # Int8 of pandas may have arrived as objects


def read_given_labels(y, label_proba=None):
    """Return the y of `fit` as `read_labels` does; several a row are `label_proba`'s."""
    if hasattr(y, "label_proba"):
        raise TypeError(
            "y must be labels, one a row, got CrowdLabels; leave out y and pass"
            " label_proba=crowd.label_proba()."
        )
    shape = getattr(y, "shape", None) or np.shape(y if isinstance(y, list | tuple) else ())
    if len(shape) == 2 and shape[1] > 1:
        out = "of people's votes pass label_proba=sknoisy.crowd.CrowdLabels(y).label_proba()"
        if np.isin(y, [0, 1]).all():  # True and False as well
            out = (
                "of one-hot rows pass y.argmax(axis=1), or label_proba=y instead of y; several"
                " classes a row (multilabel) are not supported"
            )
        raise ValueError(f"y should be a 1d array, got an array of shape {tuple(shape)}; {out}.")
    try:
        return read_labels(y)
    except ValueError as error:
        if label_proba is None:
            raise
        raise ValueError(f"{error} With label_proba y may be left out.") from error


def check_objects(labels, name) -> None:
    """Raise ValueError if of a list of labels some are missing, or not of the type of others."""
    types = set(map(type, labels))
    if not all(issubclass(kind, (str, Integral, np.bool_)) for kind in types):
        is_missing = np.array([label_is_missing(label) for label in labels])
        if is_missing.any():
            refuse_missing(labels, is_missing, name)
    kinds = {_kind(kind) for kind in types}
    if len(kinds) > 1:
        first = [next(v for v in labels if _kind(type(v)) == kind) for kind in sorted(kinds)]
        raise ValueError(
            f"{name} {RULE}, got {' and '.join(sorted(kinds))}, such as"
            f" {' and '.join(map(repr, first))}; convert them to one, for instance by str(label)."
        )
    if kinds <= {"text", "boolean", "number"}:
        return
    try:
        sorted(labels)
    except TypeError as error:
        raise ValueError(f"{name} {RULE}, got some that do not sort: {error}.") from error


def refuse_missing(labels, is_missing, name) -> None:
    """Raise ValueError that names the first missing label."""
    rows = np.flatnonzero(is_missing)
    raise ValueError(
        f"{name} {RULE}, got {labels[rows[0]]} in row {rows[0]}, {len(rows)} of {len(labels)} are"
        " missing; drop these rows, or give them a label of their own. MetaLabelNetClassifier takes"
        " rows without a label as unlabeled_X."
    )


def label_is_missing(label) -> bool:
    """Return whether a label is None, NaN, NaT or pandas' NA."""
    if type(label).__name__ in MISSING_TYPES:
        return True
    return isinstance(label, Number | np.generic) and bool(label != label)


def _kind(kind) -> str:
    """Return what labels of a type are called: labels of one kind compare."""
    for base, name in ((str, "text"), (bool, "boolean"), (np.bool_, "boolean"), (Real, "number")):
        if issubclass(kind, base):
            return name
    return kind.__name__


def name_labels(labels: np.ndarray, names) -> np.ndarray:
    """Return the names of class numbers (n,); other labels, or without `names`, as they are."""
    if names is None or labels.ndim != 1 or labels.dtype.kind not in "iu":
        return labels
    if labels.min() < 0 or labels.max() >= len(names):
        return labels
    return np.asarray(names)[labels]
