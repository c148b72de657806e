"""By how much likelier labels are under one noise model than another, and how sure that is."""

import numpy as np
from scipy.stats import norm, t
from torch import Tensor

from sknoisy.training.noise_model import NoiseModel, chunks, class_shares

TOLD_APART = 2.0  # standard errors; with 1 every sixth y seems related to X that is not
GIVEN_BIAS = 0.05  # nats a label; else a thousand given labels outvote any number of trusted rows


def gains(model: NoiseModel, other: NoiseModel, weights: Tensor) -> tuple:
    """Return by how much likelier labels are under a model: given, trusted ones, and pooled.

    Each with its standard error.
    """
    of_given = likelihood_gain(model, other, weights)
    of_trusted = _trusted_gain(model, other)
    return of_given, of_trusted, _pooled(of_given, of_trusted)


def told_apart(gain: tuple[float, float]) -> bool:
    """Return whether a gain is above two standard errors."""
    return gain[0] > TOLD_APART * gain[1]


def likelihood_gain(model: NoiseModel, other: NoiseModel, weights: Tensor) -> tuple[float, float]:
    """Return by how much likelier given labels are under a model, in nats, and its error."""
    return paired(model.log_likelihood - other.log_likelihood, weights)


def _trusted_gain(model: NoiseModel, other: NoiseModel) -> tuple[float, float]:
    """Return by how much likelier the labels of trusted rows are, and its error; nan below two."""
    labels = model.known_labels
    if labels is None or len(labels) < 2:
        return np.nan, np.nan
    gains = model.known_log_likelihood - other.known_log_likelihood
    return known_gain(gains, labels, model.class_prior)


def known_gain(gains: Tensor, labels: Tensor, prior: Tensor) -> tuple[float, float]:
    """Return the mean of gains (m,) of rows whose labels (m,) are right, and its standard error.

    Classes count by their `prior` (C,), however many rows they have; the error grows as those
    without any are more frequent.
    """
    counts = labels.bincount(minlength=len(prior))
    gain, error = paired(gains, class_shares(labels, prior))
    n, told = len(labels), prior[counts > 0].sum().item()
    few = t.ppf(norm.cdf(1), n - 1) * (n / (n - 1)) ** 0.5  # by Student's distribution
    return gain, float(few) * error / max(told, 1e-6)


def _pooled(of_given: tuple, of_trusted: tuple) -> tuple[float, float]:
    """Return the mean of two gains, weighted by how far either may be wrong, and its error.

    The gain of given labels is wrong by more than its error where mistakes can be foretold.
    """
    if not np.isfinite(of_trusted[0]):
        return of_given
    doubts = np.array([of_given[1] ** 2 + GIVEN_BIAS**2, max(of_trusted[1], 1e-6) ** 2])
    shares = (1 / doubts) / (1 / doubts).sum()
    gains, errors = np.transpose([of_given, of_trusted])
    return float(shares @ gains), float(np.linalg.norm(shares * errors))


def paired(values: Tensor, weights: Tensor) -> tuple[float, float]:
    """Return the weighted mean of values (n,), and its standard error."""
    total, parts = weights.double().sum(), list(chunks(values[:, None]))
    mean = sum((weights[rows].double() * values[rows]).sum() for rows in parts) / total
    squares = sum((weights[rows].double() * (values[rows] - mean)).square().sum() for rows in parts)
    return mean.item(), (squares.sqrt() / total).item()
