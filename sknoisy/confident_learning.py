"""Confident learning: from probabilities and given labels to the labels that are probably wrong.

C. Northcutt, L. Jiang, I. Chuang, "Confident Learning: Estimating Uncertainty in Dataset Labels",
JAIR 70, 2021.
"""

import numpy as np

LEAST_PROBABILITY = 0.01


def label_quality(proba, given):
    """Return the label quality, float64 (n,) in [0, 1]: ``(1 + p_given - max other p) / 2``.

    Below 0.5 another class is more probable than the given one. A given probability below 0.01
    counts as 0.01: smaller differences are uninformative where probabilities are too sure, and the
    other class's probability decides.
    """
    proba, rows = np.asarray(proba, dtype=np.float64), np.arange(len(given))
    own = np.maximum(proba[rows, given], LEAST_PROBABILITY)
    others = proba.copy()
    others[rows, given] = -np.inf
    return np.clip((1 + own - others.max(axis=1)) / 2, 0, 1)


def confident_classes(proba, given):
    """Return the class (n,) that each row is confidently assigned to, -1 where there is none.

    The threshold of a class is its mean probability over the rows with this given label.
    """
    proba, n_classes = np.asarray(proba, dtype=np.float64), np.shape(proba)[1]
    counts = np.bincount(given, minlength=n_classes)
    sums = np.bincount(given, proba[np.arange(len(given)), given], minlength=n_classes)
    thresholds = np.where(counts > 0, sums / np.maximum(counts, 1), np.inf)
    above = proba >= thresholds - 1e-9  # sums in another order must not exclude equal rows
    return np.where(above.any(axis=1), np.where(above, proba, -1).argmax(axis=1), -1)


def joint_distribution(proba, given):
    """Estimate the joint distribution (C, C) of given label (row) and true class (column).

    Confidently assigned rows are counted, and each row of the counts is scaled to the number of
    samples with that given label. A label without such rows counts as correct.
    """
    n_classes = np.shape(proba)[1]
    confident = confident_classes(proba, given)
    counted = confident >= 0
    pairs = given[counted] * n_classes + confident[counted]
    counts = np.bincount(pairs, minlength=n_classes**2).reshape(n_classes, n_classes).astype(float)
    return scaled_to_given(counts, given) / len(given)


def scaled_to_given(counts, given):
    """Scale the rows of counts (C, C), given label by class, to the rows with that label."""
    empty = counts.sum(axis=1) == 0
    counts = counts + np.diag(empty)
    return counts * (np.bincount(given, minlength=len(counts)) / counts.sum(axis=1))[:, None]


def find_issues(proba, given, quality):
    """Select the label issues, bool (n,): in each class the estimated number of wrong labels.

    They are the labels of lowest quality (n,), and only those with a more probable other class.
    """
    n_classes = np.shape(proba)[1]
    wrong = joint_distribution(proba, given)
    np.fill_diagonal(wrong, 0)
    wanted = np.rint(wrong.sum(axis=1) * len(given)).astype(int)
    own = np.asarray(proba)[np.arange(len(given)), given]
    may_be = np.maximum(own, LEAST_PROBABILITY) < np.max(proba, axis=1)
    issues = np.zeros(len(given), dtype=bool)
    for label in range(n_classes):
        rows = np.flatnonzero((given == label) & may_be)
        worst = rows[np.argsort(quality[rows], kind="stable")]
        issues[worst[: wanted[label]]] = True
    return issues
