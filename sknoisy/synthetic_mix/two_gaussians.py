"""A mixture of two Gaussians on a line, by k-means and expectation maximization.

The numbers are those of scikit-learn's GaussianMixture. Its `fit` is not called: experiment
trackers that patch the fit of each estimator would record it in place of the user's own.
"""

from typing import NamedTuple

import numpy as np
from sklearn import config_context
from sklearn.cluster import kmeans_plusplus

VARIANCE_FLOOR = 5e-4  # is added to each variance
MAX_STEPS, TOLERANCE = 10, 1e-2  # nats a value
MAX_MOVES, LEAST_MOVE = 300, 1e-4  # of the centers, in variances of the values


class TwoGaussians(NamedTuple):
    """The mixture; each array has shape (2,), for the lower and the upper Gaussian.

    Attributes
    ----------
    weights, means, variances : ndarray of shape (2,)
        They stand in the order of the means that k-means found.
    """

    weights: np.ndarray
    means: np.ndarray
    variances: np.ndarray

    @classmethod
    def of(cls, values: np.ndarray, shares: np.ndarray) -> "TwoGaussians":
        """Return the mixture of values (n,) of which each Gaussian has its share (n, 2)."""
        counts = shares.sum(axis=0) + 10 * np.finfo(np.float64).eps
        means = values @ shares / counts
        variances = (shares * (values[:, None] - means) ** 2).sum(axis=0) / counts
        return cls(counts / counts.sum(), means, variances + VARIANCE_FLOOR)

    def log_densities(self, values: np.ndarray) -> np.ndarray:
        """Return the logarithm (n, 2) of each Gaussian's weighted density at the values (n,)."""
        squares = (values[:, None] - self.means) ** 2 / self.variances
        return np.log(self.weights) - (np.log(2 * np.pi * self.variances) + squares) / 2

    def shares(self, values: np.ndarray) -> np.ndarray:
        """Return the posterior (n, 2) of the two Gaussians at the values (n,)."""
        log_densities = self.log_densities(values)
        return np.exp(log_densities - np.logaddexp(*log_densities.T)[:, None])


def fit_two_gaussians(values: np.ndarray, seed: int) -> TwoGaussians:
    """Return the mixture fitted to values (n,), not all of them equal, in float64."""
    is_upper = two_means(values, seed)
    mixture = TwoGaussians.of(values, np.stack([~is_upper, is_upper], axis=1).astype(np.float64))
    likelihood = -np.inf
    for _ in range(MAX_STEPS):
        before, likelihood = likelihood, np.logaddexp(*mixture.log_densities(values).T).mean()
        mixture = TwoGaussians.of(values, mixture.shares(values))
        if abs(likelihood - before) < TOLERANCE:
            break
    return mixture


def two_means(values: np.ndarray, seed: int) -> np.ndarray:
    """Return which of the values (n,) belong to the upper one of two means."""
    with config_context(array_api_dispatch=False):
        found, _ = kmeans_plusplus(values[:, None], 2, random_state=seed)
    centers = np.sort(found[:, 0])
    for _ in range(MAX_MOVES):
        is_upper = nearer_upper(values, centers)
        if not is_upper.any():  # the values are equal
            return is_upper
        moved = np.array([values[~is_upper].mean(), values[is_upper].mean()])
        move, centers = ((moved - centers) ** 2).sum(), moved
        if move <= LEAST_MOVE * values.var():
            break
    return nearer_upper(values, centers)


def nearer_upper(values: np.ndarray, centers: np.ndarray) -> np.ndarray:
    """Return which of the values (n,) are nearer to the second center than to the first."""
    return abs(values - centers[1]) < abs(values - centers[0])
