"""Columns of the tables of annotators and of rows, with cleanlab's names."""

import numpy as np

from sknoisy.crowd.equations import confusion_matrices, vote_counts
from sknoisy.label_proba import most_probable


def annotator_columns(votes, proba, classes, names) -> dict:
    """Return the columns of the annotators' table, each (A,), worst annotator first."""
    n_votes = np.bincount(votes.annotators, minlength=votes.n_annotators)
    consensus = consensus_of(proba)
    matrices = confusion_matrices(vote_counts(votes, proba))  # (A, C, C)
    # A network gives a class without rows some probability, of rows that are other classes'.
    is_class = np.isin(np.arange(len(classes)), consensus)
    worst = np.where(is_class, matrices.diagonal(axis1=1, axis2=2), np.inf).argmin(axis=1)
    of_worst = matrices[np.arange(votes.n_annotators), worst]  # (A, C)
    of_worst[np.arange(votes.n_annotators), worst] = -1
    quality = _mean_of(votes, proba[votes.rows, votes.labels], n_votes)
    columns = {
        "row": names,
        "annotator_quality": quality,
        "agreement_with_consensus": _mean_of(
            votes, consensus[votes.rows] == votes.labels, n_votes
        ),
        "worst_class": named(np.where(n_votes > 0, worst, -1), classes),
        "worst_class_voted_as": named(np.where(n_votes > 0, of_worst.argmax(axis=1), -1), classes),
        "num_examples_labeled": n_votes,
    }  # fmt: skip
    order = np.argsort(quality, kind="stable")  # NaN last
    return {name: column[order] for name, column in columns.items()}


def consensus_columns(votes, proba, classes) -> dict:
    """Return the columns of the rows' table, each (n,)."""
    consensus = consensus_of(proba)
    n_votes = np.bincount(votes.rows, minlength=votes.n_rows)
    agree = np.bincount(
        votes.rows, consensus[votes.rows] == votes.labels, minlength=votes.n_rows
    )  # fmt: skip
    return {
        "row": np.arange(votes.n_rows),
        "consensus_label": named(consensus, classes),
        "consensus_quality_score": proba.max(axis=1),
        "annotator_agreement": np.where(n_votes > 0, agree / np.maximum(n_votes, 1), np.nan),
        "num_annotations": n_votes,
    }


def consensus_of(proba) -> np.ndarray:
    """Return the most probable class (n,), of equals a random one; -1 in rows of NaN."""
    return np.where(np.isnan(proba[:, 0]), -1, most_probable(proba))


def named(numbers, classes) -> np.ndarray:
    """Return classes by their numbers; objects with None where there is a -1."""
    if (numbers >= 0).all():
        return classes[numbers]
    labels = classes.astype(object)[numbers]
    labels[numbers < 0] = None
    return labels


def _mean_of(votes, values, n_votes) -> np.ndarray:
    """Return the mean (A,) over each annotator's votes, NaN without votes."""
    total = np.bincount(votes.annotators, values, minlength=votes.n_annotators)
    return np.where(n_votes > 0, total / np.maximum(n_votes, 1), np.nan)
