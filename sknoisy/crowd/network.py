"""Out-of-sample probabilities that go with votes: an estimator's, or an array's."""

import numpy as np
import torch

from sknoisy.columns import warn_of_order
from sknoisy.crowd.equations import LEAST_PROBABILITY, vote_shares
from sknoisy.issues import read_probabilities
from sknoisy.pipeline import fitted_estimator
from sknoisy.row_index import RowIndex, check_order
from sknoisy.training.noise_model import fit_noise_model

INSTEAD = "cross_val_predict(clf, X, y, method='predict_proba')"


def network_probabilities(by, classes, votes, row_index) -> np.ndarray:
    """Return the probabilities (n, C) of a fitted estimator or array, columns as the classes.

    An estimator's are calibrated by its evidence; those of an array, by the votes.
    """
    n_rows, is_fitted = votes.n_rows, hasattr(by, "fit")
    if is_fitted:
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
    check_order("votes", row_index, "by", index, frame="X")
    proba = np.asarray(proba, dtype=np.float64)[:, np.argsort(found)]
    if is_fitted:
        return proba
    warn_of_order(proba[votes.rows], votes.labels, classes, "by")
    return calibrated(proba, votes)


def calibrated(proba, votes) -> np.ndarray:
    """Return probabilities (n, C) at the temperature by which, and by noise, they foretell votes.

    As a prior they are weighed against votes: a forest's, too flat, would hardly count, and a
    network's, too sure, would overrule them.
    """
    shares = vote_shares(votes)
    has_votes = ~np.isnan(shares[:, 0])
    logits = torch.from_numpy(np.log(np.maximum(proba, LEAST_PROBABILITY)))
    weights = torch.from_numpy(has_votes.astype(np.float64))
    given = torch.from_numpy(np.where(has_votes[:, None], shares, 0.0))
    return fit_noise_model(logits, given, weights).proba.numpy()


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
