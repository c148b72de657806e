"""The interval of a rate: closed forms, limits, and how often it holds the truth."""

import numpy as np
import pytest
from scipy.stats import binomtest

from sknoisy.review.interval import exact_interval, stratified_estimate
from sknoisy.review.selection import draw_sample


@pytest.mark.parametrize("successes", [0, 1, 7, 30])
def test_the_exact_interval_is_that_of_clopper_and_pearson(successes):
    expected = binomtest(successes, 30).proportion_ci(0.9)
    assert exact_interval(successes, 30, 0.9) == pytest.approx((expected.low, expected.high))


def test_one_stratum_is_a_plain_sample():
    estimate = stratified_estimate([0], [50], [10_000_000], 10_000_000, 0.95)
    assert (estimate.rate, estimate.low) == (0, 0)
    assert estimate.high == pytest.approx(exact_interval(0, 50, 0.95)[1], abs=1e-5)


def test_strata_count_by_their_sizes():
    estimate = stratified_estimate([5, 0], [10, 10], [100, 900], 1000, 0.95)
    assert estimate.rate == pytest.approx(0.05)
    assert 0.005 <= estimate.low < 0.05 < estimate.high


def test_strata_that_tell_right_from_wrong_narrow_the_interval():
    plain = stratified_estimate([50], [100], [10_000], 10_000, 0.95)
    told = stratified_estimate([1, 49], [50, 50], [5000, 5000], 10_000, 0.95)
    assert told.rate == plain.rate
    assert told.high - told.low < (plain.high - plain.low) / 2


def test_what_was_reviewed_is_certain():
    estimate = stratified_estimate([3, 1], [40, 60], [40, 60], 100, 0.95)
    assert estimate == pytest.approx((0.04, 0.04, 0.04))
    estimate = stratified_estimate([3], [40], [50], 50, 0.95)
    assert estimate.low >= 3 / 50
    assert estimate.high <= 13 / 50


def test_rows_of_a_stratum_without_review_may_all_be_wrong_or_all_right():
    known = stratified_estimate([10], [100], [800], 800, 0.95)
    partly = stratified_estimate([10], [100], [800], 1000, 0.95)
    assert partly.rate == known.rate
    assert partly.low == pytest.approx(0.8 * known.low)
    assert partly.high == pytest.approx(0.8 * known.high + 0.2)


def test_more_confidence_is_a_wider_interval():
    widths = []
    for confidence in (0.5, 0.9, 0.99):
        estimate = stratified_estimate([2, 9], [30, 20], [600, 400], 1000, confidence)
        widths.append(estimate.high - estimate.low)
    assert widths == sorted(widths)


CLASSES, REVIEWS = 5, 300


@pytest.mark.slow
@pytest.mark.parametrize("n_rows", [20, 100, 300])
@pytest.mark.parametrize(
    ("shares", "rates"),
    [
        ((0.4, 0.2, 0.4), (0.9, 0.3, 0.02)),  # much noise, well found
        ((0.1, 0.2, 0.7), (0.7, 0.1, 0.01)),
        ((0.01, 0.01, 0.98), (0.8, 0.2, 0.002)),  # tiny strata
        ((0.3, 0.3, 0.4), (0.004, 0.003, 0.002)),  # nearly none
        ((0.3, 0.3, 0.4), (0.0, 0.0, 0.0)),
        ((0.2, 0.3, 0.5), (0.3, 0.3, 0.3)),  # strata that tell nothing
        ((0.2, 0.2, 0.6), (0.0, 0.5, 1.0)),
    ],
)
def test_the_interval_holds_the_true_rate_in_93_of_100_reviews(shares, rates, n_rows):
    rng = np.random.RandomState(0)
    n_samples = 2000
    stratum = np.repeat([0, 1, 2], np.rint(np.array(shares) * n_samples).astype(int))
    quality = np.array([0.2, 0.6, 0.9])[stratum]
    given = rng.randint(CLASSES, size=n_samples)
    wrong = rng.random_sample(n_samples) < np.array(rates)[stratum]
    held = 0
    for _ in range(REVIEWS):
        sample = draw_sample(given, quality, n_rows, rng)
        names, sizes = np.array(sample.strata), np.array(sample.sizes)
        members = [names == name for name in np.unique(names)]
        estimate = stratified_estimate(
            [wrong[sample.rows[rows]].sum() for rows in members],
            [rows.sum() for rows in members],
            [sizes[rows][0] for rows in members],
            n_samples,
            0.95,
        )
        held += estimate.low - 1e-12 <= wrong.mean() <= estimate.high + 1e-12
    assert held >= 0.93 * REVIEWS
