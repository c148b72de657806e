"""Label issues, label quality and noise transitions: tables from probabilities.

Columns have cleanlab's names.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from sknoisy.answers import answers
from sknoisy.columns import check_numbered, numbers_of, read_columns, warn_of_order
from sknoisy.confident_learning import (
    find_issues,
    joint_distribution,
    label_quality,
    scaled_to_given,
)
from sknoisy.labels import read_labels
from sknoisy.pipeline import fitted_estimator
from sknoisy.row_index import RowIndex, check_order
from sknoisy.tables import table
from sknoisy.user_warnings import listed, warn

# Parameters of cleanlab's functions, and what to do here.
CLEANLABS = {
    "labels": "pass them as y",
    "filter_by": "there is one rule, near to cleanlab's 'prune_by_class'",
    "return_indices_ranked_by": "the table is ranked, and its column position holds the indices",
}


@answers(CLEANLABS)
def find_label_issues(estimator=None, y=None, *, pred_probs=None, classes=None):
    """Find the labels that are probably wrong, worst first.

    Parameters
    ----------
    estimator : fitted estimator of this library, Pipeline or search that ends in one, or None
        Its given labels are used, and the out-of-sample probabilities of its evidence, or without
        evidence its `soft_labels_`.
    y : array-like of shape (n_samples,) or None
        Given labels; None takes those that the estimator was fitted on, its own.
    pred_probs : array-like of shape (n_samples, n_classes) or None
        Probabilities, instead of an estimator's: out-of-sample ones, as of
        ``cross_val_predict(clf, X, y, method="predict_proba")``. The columns of a frame may have
        the classes as their names, in any order.
    classes : array-like of shape (n_classes,) or None
        Labels of the columns of `pred_probs`; None: the sorted labels of y.

    Returns
    -------
    issues : pandas.DataFrame, or structured ndarray without pandas
        A row for each label, lowest quality first; rows without any vote have none. The index is
        that of the pandas object that the labels come with: of `y`, else of `pred_probs`; of an
        estimator that of the X of `fit`, or where X has none of its y. Without one it is
        ``position``.

        - ``is_label_issue``: whether the label is probably wrong. Of each given label there are at
          most as many as confident learning counts; `class_quality` and `noise_rate` of a fit with
          evidence are its noise model's, which may count fewer.
        - ``label_quality``: a score in [0, 1]. Of an estimator's own labels, with evidence, the
          mean of two probabilities of the given label in view of the prediction and of the label:
          by symmetric noise, and by the noise model's matrix, which knows more and may be wrong in
          more. So an issue may be above 0.5. Of all others
          ``(1 + p_given - p_best_other) / 2``, which is below 0.5 for each issue.
        - ``given_label``, ``predicted_label``: the label, and the most probable one.
        - ``position``: the number of the row in X and y.

    References
    ----------
    C. Northcutt et al., "Confident Learning", JAIR 70, 2021.
    """
    found = judged(estimator, y, pred_probs, classes)
    quality, classes = found.quality, found.classes
    order = np.argsort(quality, kind="stable")
    columns = {
        "is_label_issue": found.find_issues()[order],
        "label_quality": quality[order],
        "given_label": classes[found.given[order]],
        "predicted_label": classes[found.proba.argmax(axis=1)[order]],
        "position": found.rows[order],
    }
    row_index = RowIndex.of(y, pred_probs)
    if row_index is None and estimator is not None:
        row_index = fitted_estimator(estimator)._row_index
    return table(columns, row_index)


@answers(CLEANLABS)
def corrected_labels(estimator=None, y=None, *, pred_probs=None, classes=None):
    """Correct the labels where there is a label issue.

    Of an estimator's own labels, with evidence, an issue gets the most probable class in view of
    both, the prediction and the given label: p(class | x) times p(given label | class), the
    ``posterior`` of `sknoisy.training.evidence.Evidence`. Noise is symmetric there, unless labels
    tell more of it. An issue may keep its label: predictions may know less than labels do, and a
    class that is seldom mislabeled needs more to be overruled. Without evidence, and of other
    labels, it gets the ``predicted_label`` of `find_label_issues`.

    Parameters as in `find_label_issues`.

    Returns
    -------
    labels : ndarray of shape (n_samples,)
        In the order of y, of the type of the classes. A row without any vote has its prediction.
    """
    found = judged(estimator, y, pred_probs, classes)
    labels = found.all_proba.argmax(axis=1)
    best = found.posterior.argmax(axis=1)
    labels[found.rows] = np.where(found.find_issues(), best, found.given)
    lost = np.setdiff1d(found.given, labels)
    if len(lost):
        lost = listed(found.classes[lost])
        warn(
            f"Corrected labels keep no row of {lost}: all labels of such a class"
            " seem wrong. Of a class of a few rows predictions know little; look at them in"
            " find_label_issues, and keep those that are right."
        )
    return found.classes[labels]


@answers(CLEANLABS)
def noise_transition_matrix(estimator=None, y=None, *, pred_probs=None, classes=None):
    """Estimate the noise transition matrix T, p(given label | true class).

    Parameters as in `find_label_issues`.

    Returns
    -------
    matrix : ndarray of shape (n_classes, n_classes)
        Entry (i, j) is the probability that a row of class i has the given label j; rows sum to 1.
        The row of a class without samples is that of the identity.
    """
    found = judged(estimator, y, pred_probs, classes)
    if found.evidence is not None:
        return found.evidence.transition.copy()
    joint = joint_distribution(found.proba, found.given).T
    empty = joint.sum(axis=1) == 0
    joint[empty, empty] = 1
    return joint / joint.sum(axis=1, keepdims=True)


@answers(CLEANLABS)
def noise_rate(estimator=None, y=None, *, pred_probs=None, classes=None):
    """Estimate the fraction of wrong labels, in [0, 1]; parameters as in `find_label_issues`."""
    found = judged(estimator, y, pred_probs, classes)
    if found.evidence is not None:
        return found.evidence.noise_rate
    return float(1 - np.trace(joint_distribution(found.proba, found.given)))


@answers(CLEANLABS)
def class_quality(estimator=None, y=None, *, pred_probs=None, classes=None):
    """Estimate for each class how many labels are wrong; parameters as in `find_label_issues`.

    Returns
    -------
    table : pandas.DataFrame, or structured ndarray without pandas
        A row a class, the class with the largest fraction of wrong labels first, with the class as
        the frame's index, or as the field ``row``, and estimated numbers of rows:

        - ``given``: rows with this label, ``believed``: rows that belong to the class.
        - ``wrong_in``: rows with this label that belong to another class.
        - ``wrong_out``: rows of this class with another label.
        - ``label_noise``: ``wrong_in / given``.
    """
    found = judged(estimator, y, pred_probs, classes)
    if found.evidence is None:
        counts = joint_distribution(found.proba, found.given) * len(found.given)
    else:
        counts = scaled_to_given(found.evidence.joint.T, found.given)
    right, in_given, in_class = counts.diagonal(), counts.sum(axis=1), counts.sum(axis=0)
    noise = (in_given - right) / np.maximum(in_given, 1)
    order = np.argsort(-noise, kind="stable")
    columns = {
        "row": found.classes[order],
        "given": in_given[order],
        "believed": in_class[order],
        "wrong_in": (in_given - right)[order],
        "wrong_out": (in_class - right)[order],
        "label_noise": noise[order],
    }
    return table(columns)


@dataclass(frozen=True)
class Judged:
    """Labels, and the probabilities by which they are judged.

    Attributes
    ----------
    proba : ndarray of shape (n, n_classes)
        Probabilities of the rows that have a label.
    given : ndarray of shape (n,)
        Their class numbers.
    classes : ndarray of shape (n_classes,)
        The classes.
    rows : ndarray of shape (n,)
        Their positions: all but those without any vote in an estimator's `label_proba`.
    all_proba : ndarray of shape (n_samples, n_classes)
        Probabilities of all rows.
    evidence : sknoisy.training.evidence.Evidence or None
        Where these are an estimator's own labels, what its fit has gathered.
    votes : Tensor of shape (n,) or (n, n_classes), or None
        The labels as `evidence` takes them: class numbers, or shares of votes.
    """

    proba: np.ndarray
    given: np.ndarray
    classes: np.ndarray
    rows: np.ndarray
    all_proba: np.ndarray
    evidence: object | None = None
    votes: object | None = None

    @cached_property
    def posterior(self) -> np.ndarray:
        """Probabilities (n, n_classes) by the prediction, and with evidence by the label too."""
        if self.evidence is None:
            return self.proba
        return self.evidence.posterior(self.votes, self.rows).numpy()

    @cached_property
    def quality(self) -> np.ndarray:
        """The label quality (n,), see `find_label_issues`."""
        if self.evidence is None:
            return label_quality(self.proba, self.given)
        own = np.arange(len(self.given)), self.given
        by = [
            self.evidence.posterior(self.votes, self.rows, is_symmetric=is_symmetric).numpy()[own]
            for is_symmetric in (True, False)
        ]
        return np.mean(by, axis=0, dtype=np.float64)

    def find_issues(self) -> np.ndarray:
        """Return which labels are issues, bool (n,)."""
        return find_issues(self.proba, self.given, self.quality)


def judged(estimator, y, pred_probs, classes) -> Judged:
    """Return the labels of a user, or of an estimator's fit, and what judges them, checked."""
    if estimator is not None:
        estimator = fitted_estimator(estimator)
    if (estimator is None) == (pred_probs is None):
        raise ValueError("Give either a fitted estimator or pred_probs, not both and not neither.")
    if estimator is not None:
        classes, evidence = estimator.classes_, estimator.evidence_
        proba = np.asarray(estimator.soft_labels_ if evidence is None else evidence.proba)
        if y is not None:
            check_order("y", y, "X", estimator._row_index)
        y = estimator.given_labels_ if y is None else _labels(y, "y")
    else:
        if y is None:
            raise ValueError("y must be given with pred_probs, got None; pass the given labels.")
        check_order("y", y, "pred_probs", pred_probs)
        y = _labels(y, "y")
        proba, classes = read_probabilities(pred_probs, y, classes)
    if len(proba) != len(y):
        raise ValueError(
            f"y must have a label for each row of the probabilities, got {len(y)} labels and"
            f" {len(proba)} rows."
        )
    given, rows = class_numbers(y, classes), np.arange(len(y))
    if estimator is None:
        warn_of_order(proba, given, classes, "pred_probs")
    if estimator is None or not np.array_equal(y, estimator.given_labels_):
        return Judged(proba, given, classes, rows, proba)
    rows = rows[estimator._has_label]
    kept = slice(None) if len(rows) == len(given) else rows
    votes = None if evidence is None else estimator._given[kept]
    return Judged(proba[kept], given[kept], classes, rows, proba, evidence, votes)


def class_numbers(y, classes, name="y"):
    """Return labels (n,) as numbers of classes."""
    order = np.argsort(classes)
    try:
        place = np.searchsorted(classes, y, sorter=order).clip(max=len(classes) - 1)
        is_unknown = classes[order[place]] != y
    except TypeError:  # of another type, which does not compare
        is_unknown = np.ones(len(y), dtype=bool)
    if is_unknown.any():
        are_numbers = y.dtype.kind in "iu" and y.min() >= 0 and y.max() < len(classes)
        out = f" If {name} are class numbers, pass numpy.asarray(classes)[{name}]."
        raise ValueError(
            f"{name} must hold labels of classes, got {y[is_unknown].tolist()[0]!r}; classes are"
            f" {classes.tolist()[:10]}.{out if are_numbers else ''}"
        )
    return order[place]


def _labels(labels, name):
    """Return labels as an array (n,), none of them missing."""
    labels = np.asarray(read_labels(labels, name))
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1 or len(labels) == 0:
        raise ValueError(f"{name} must have shape (n,), n at least 1, got {labels.shape}.")
    return labels


def read_probabilities(pred_probs, y, classes, name="pred_probs"):
    """Return probabilities (n, C), checked, and the classes of their columns."""
    proba, names = read_columns(pred_probs, name)
    labels = np.asarray(classes if y is None else y)
    if names is not None and labels.dtype.kind in "iub" and set(map(type, names)) == {str}:
        names = numbers_of(names, labels) or names  # as a CSV holds them
    if names is not None:
        if classes is not None and set(names) != set(np.asarray(classes).tolist()):
            raise ValueError(
                f"{name} must have the columns of classes, {np.asarray(classes).tolist()[:10]},"
                f" got {names[:10]}."
            )
        classes = names
    classes = np.unique(y) if classes is None else _labels(classes, "classes")
    if len(np.unique(classes)) < len(classes):
        raise ValueError(f"classes must differ from each other, got {classes.tolist()[:10]}.")
    if proba.ndim != 2 or proba.shape[1] != len(classes):
        two = "numpy.column_stack([1 - p, p]) for the probability p of the second class"
        out = two if proba.ndim == 1 else "classes, the labels of its columns"
        raise ValueError(
            f"{name} must have shape (n_samples, n_classes), a column for each class, got"
            f" {proba.shape} and {len(classes)} classes: {classes[:10].tolist()}; pass {out}."
        )
    check_numbered(pred_probs, classes, name)
    total = proba.sum(axis=1)
    bad = np.flatnonzero(~(np.isfinite(total) & (proba.min(axis=1) >= 0) & (abs(total - 1) < 0.01)))
    if len(bad):
        raise ValueError(
            f"{name} must hold probabilities, rows that sum to 1, got"
            f" {proba[bad[0]][:10].tolist()} in row {bad[0]}."
        )
    return proba, classes
