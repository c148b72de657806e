"""Seeded label noise for experiments and tests.

Every function takes labels of any type that sorts, shape (n_samples,), none of them missing, and
returns a new ndarray of such labels. Rates are fractions in [0, 1]. Results differ by several
points between noise protocols: always report which one was used.
"""

import math
from collections.abc import Mapping
from numbers import Real

import numpy as np
from sklearn.utils import check_random_state, check_scalar, column_or_1d

from sknoisy.labels import read_labels


def symmetric_noise(y, rate, *, inclusive=False, random_state=None):
    """Relabel ``floor(rate * n_samples)`` random rows uniformly.

    Parameters
    ----------
    y : array-like of shape (n_samples,)
        True labels.
    rate : float in [0, 1]
        Fraction of the rows to relabel.
    inclusive : bool, default=False
        False draws from the other classes, so the noise rate is `rate`. True draws from all
        classes, the true one included, as in much of the literature: the noise rate is then
        about ``rate * (1 - 1 / n_classes)``.
    random_state : int, RandomState or None, default=None
        Determines which rows are relabeled, and to what.

    Returns
    -------
    ndarray of shape (n_samples,)
        The noisy labels.
    """
    classes, labels, rng = _prepare(y, rate, random_state)
    chosen = rng.permutation(len(labels))[: _floor(rate * len(labels))]
    if inclusive:
        labels[chosen] = rng.randint(len(classes), size=len(chosen))
    else:
        shift = rng.randint(1, len(classes), size=len(chosen))
        labels[chosen] = (labels[chosen] + shift) % len(classes)
    return classes[labels]


def asymmetric_noise(y, rate, class_map, *, random_state=None):
    """Relabel ``ceil(rate * n_c)`` random rows of each source class by a map.

    Parameters
    ----------
    y : array-like of shape (n_samples,)
        True labels.
    rate : float in [0, 1]
        Fraction of the rows of each source class to relabel.
    class_map : dict
        Source label -> target label; classes that are no key keep their labels.
    random_state : int, RandomState or None, default=None
        Determines which rows are relabeled.

    Returns
    -------
    ndarray of shape (n_samples,)
        The noisy labels.
    """
    classes, labels, rng = _prepare(y, rate, random_state)
    if not isinstance(class_map, Mapping):
        raise TypeError(f"class_map must be a dict, label -> label, got {class_map!r}.")
    position = {label: k for k, label in enumerate(classes.tolist())}
    unknown = [c for pair in class_map.items() for c in pair if c not in position]
    if unknown:
        raise ValueError(
            f"class_map must name labels of y, got {unknown[0]!r}; y has {classes.tolist()}."
        )
    noisy = labels.copy()
    for source, target in class_map.items():
        members = rng.permutation(np.flatnonzero(labels == position[source]))
        noisy[members[: _ceil(rate * len(members))]] = position[target]
    return classes[noisy]


def pair_noise(y, rate, *, random_state=None):
    """Relabel ``ceil(rate * n_c)`` random rows of each class to the next class in sorted order.

    Parameters and return value as in `asymmetric_noise`; the last class goes to the first.
    """
    classes = _prepare(y, rate, None)[0].tolist()
    following = dict(zip(classes, classes[1:] + classes[:1], strict=True))
    return asymmetric_noise(y, rate, following, random_state=random_state)


def transition_noise(y, matrix, *, random_state=None):
    """Draw each label from the row of a transition matrix.

    Parameters
    ----------
    y : array-like of shape (n_samples,)
        True labels.
    matrix : array-like of shape (n_classes, n_classes)
        ``matrix[i, j]`` is the probability that a row of class i is given label j, in the sorted
        order of the labels; rows sum to 1.
    random_state : int, RandomState or None, default=None
        Determines the draws. They are independent, so realized rates are binomial.

    Returns
    -------
    ndarray of shape (n_samples,)
        The noisy labels.
    """
    classes, labels, rng = _prepare(y, 0, random_state)
    matrix = np.asarray(matrix, dtype=np.float64)
    if matrix.shape != (len(classes), len(classes)):
        raise ValueError(
            f"matrix must have shape (n_classes, n_classes) = {(len(classes),) * 2}, got"
            f" {matrix.shape}."
        )
    if not ((matrix >= 0).all() and np.allclose(matrix.sum(axis=1), 1)):
        raise ValueError(f"matrix must have non-negative rows that sum to 1, got {matrix}.")
    thresholds = matrix.cumsum(axis=1)[labels]  # (n, C)
    drawn = (rng.random_sample(len(labels))[:, None] >= thresholds).sum(axis=1)
    return classes[np.minimum(drawn, len(classes) - 1)]


def instance_dependent_noise(y, rate, pred_probs):
    """Relabel the ``floor(rate * n_samples)`` rows that are most confusable to a classifier.

    Rows are ranked by the probability of their best wrong class, and relabeled to that class.

    Parameters
    ----------
    y : array-like of shape (n_samples,)
        True labels.
    rate : float in [0, 1]
        Fraction of the rows to relabel.
    pred_probs : array-like of shape (n_samples, n_classes)
        Class probabilities of any classifier, preferably out-of-sample; columns in the sorted
        order of the labels.

    Returns
    -------
    ndarray of shape (n_samples,)
        The noisy labels; they are deterministic.
    """
    classes, labels, _ = _prepare(y, rate, None)
    wrong = np.array(pred_probs, dtype=np.float64)
    if wrong.shape != (len(labels), len(classes)):
        raise ValueError(
            f"pred_probs must have shape (n_samples, n_classes) = {(len(labels), len(classes))},"
            f" got {wrong.shape}."
        )
    if not np.isfinite(wrong).all() or wrong.min() < 0:
        raise ValueError("pred_probs must be finite and non-negative; check the classifier.")
    wrong[np.arange(len(labels)), labels] = -np.inf
    hardest = np.argsort(-wrong.max(axis=1), kind="stable")[: _floor(rate * len(labels))]
    labels[hardest] = wrong[hardest].argmax(axis=1)
    return classes[labels]


def _prepare(y, rate, random_state):
    """Return the classes, the labels as class numbers, and the generator."""
    check_scalar(rate, "rate", Real, min_val=0, max_val=1)
    if math.isnan(rate):
        raise ValueError("rate must be in [0, 1], got nan.")
    y = column_or_1d(read_labels(y))
    classes, labels = np.unique(y, return_inverse=True)
    if len(classes) < 2:
        raise ValueError(f"y must have at least 2 classes, got {len(classes)}.")
    return classes, labels, check_random_state(random_state)


def _floor(count):
    # 0.3 * 10 is 3 up to rounding: without the tolerance a row would be lost.
    return int(np.floor(count + 1e-9))


def _ceil(count):
    return int(np.ceil(count - 1e-9))
