"""The mixture of two Gaussians is scikit-learn's."""

import numpy as np
import pytest
from sklearn.mixture import GaussianMixture

from sknoisy.synthetic_mix.two_gaussians import TwoGaussians, fit_two_gaussians


def losses(seed):
    rng = np.random.default_rng(seed)
    clean = rng.exponential(rng.uniform(0.05, 0.5), rng.integers(10, 500))
    wrong = rng.gamma(3, rng.uniform(0.1, 1), rng.integers(10, 300))
    return np.concatenate([clean, wrong]) / 5


def skewed_losses(seed):
    rng = np.random.default_rng(seed)
    values = rng.exponential(1, rng.integers(3, 40)) ** rng.uniform(1, 6)
    return values / values.max()


def assert_like_the_reference(values, others, seed):
    reference = GaussianMixture(2, max_iter=10, tol=1e-2, reg_covar=5e-4, random_state=seed)
    expected = reference.fit(values[:, None]).predict_proba(others[:, None])
    order = reference.means_[:, 0].argsort()
    found = fit_two_gaussians(values, seed)
    own_order = found.means.argsort()
    np.testing.assert_allclose(found.weights[own_order], reference.weights_[order])
    np.testing.assert_allclose(found.means[own_order], reference.means_[order, 0], atol=1e-12)
    np.testing.assert_allclose(found.variances[own_order], reference.covariances_[order, 0, 0])
    np.testing.assert_allclose(found.shares(others)[:, own_order], expected[:, order], atol=1e-9)
    return reference


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_it_is_the_one_that_scikit_learn_fits():
    for seed in range(20):
        assert_like_the_reference(losses(seed), losses(seed + 100), seed)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_it_is_so_after_any_number_of_steps():
    steps = set()
    for seed in range(200):
        values = skewed_losses(seed)
        reference = assert_like_the_reference(values, values, seed)
        steps.add((reference.n_iter_, reference.converged_))
    assert {(2, True), (9, True), (10, False)} <= steps


def test_moments_of_certain_shares_are_those_of_each_part():
    values = np.array([0.0, 0.2, 1.0, 1.4])
    found = TwoGaussians.of(values, np.array([[1.0, 0], [1, 0], [0, 1], [0, 1]]))
    np.testing.assert_allclose(found.weights, [0.5, 0.5])
    np.testing.assert_allclose(found.means, [0.1, 1.2])
    np.testing.assert_allclose(found.variances, [0.01 + 5e-4, 0.04 + 5e-4])


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_equal_values_are_a_mixture_too():
    assert np.isfinite(fit_two_gaussians(np.full(9, 0.3), 0).shares(np.array([0.0, 0.3, 1]))).all()


def test_far_values_have_finite_shares():
    found = fit_two_gaussians(np.r_[np.zeros(5), np.ones(5)], 0).shares(np.array([-1e3, 0.5, 1e3]))
    np.testing.assert_allclose(found.sum(axis=1), 1)
