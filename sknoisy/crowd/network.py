"""Out-of-sample probabilities that go with votes: an estimator's, or an array's."""

import numpy as np

from sknoisy.issues import read_probabilities
from sknoisy.pipeline import fitted_estimator
from sknoisy.row_index import RowIndex

INSTEAD = "cross_val_predict(clf, X, y, method='predict_proba')"


def network_probabilities(by, classes, n_rows, row_index) -> np.ndarray:
    """Return the probabilities (n, C) of a fitted estimator or array, columns as the classes."""
    if hasattr(by, "fit"):
        proba, found, index = _of_estimator(by)
    else:
        proba, found = read_probabilities(by, None, classes, "by")
        index = RowIndex.of(by)
    if not np.array_equal(np.sort(found), classes):
        raise ValueError(
            f"by must have the classes of the votes, {classes.tolist()[:10]}, got"
            f" {found.tolist()[:10]}; pass classes to CrowdLabels, or fit with"
            " label_proba=crowd.label_proba()."
        )
    if len(proba) != n_rows:
        raise ValueError(
            f"by must have a row for each row of votes, got {len(proba)} and {n_rows} rows; fit it"
            " on the rows of the votes, in their order."
        )
    if index is not None and row_index is not None and _is_reordered(index, row_index):
        raise ValueError(
            "by must have the rows of the votes in their order, got their index in another order;"
            " reorder the votes: votes.loc[X.index]."
        )
    return np.asarray(proba, dtype=np.float64)[:, np.argsort(found)]


def _of_estimator(estimator):
    """Return the out-of-sample probabilities of an estimator, its classes and the index of X."""
    try:
        estimator = fitted_estimator(estimator)
    except TypeError as error:
        raise TypeError(
            f"by must be a fitted estimator of this library, got {type(estimator).__name__}; of"
            f" another pass probabilities, {INSTEAD}."
        ) from error
    if estimator.evidence_ is None:
        raise ValueError(
            "by must have out-of-sample probabilities, got an estimator whose evidence_ is None;"
            f" fit it with evidence=True, or pass {INSTEAD}."
        )
    return estimator.evidence_.proba, estimator.classes_, estimator._row_index


def _is_reordered(index, other) -> bool:
    """Return whether two indexes hold the same rows in another order."""
    index, other = index.index(), other.index()
    return not index.equals(other) and set(index) == set(other)
