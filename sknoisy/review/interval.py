"""A rate in all rows, and an interval that holds it, from rows reviewed in strata.

E. L. Korn, B. I. Graubard, "Confidence Intervals for Proportions with Small Expected Number of
Positive Counts Estimated from Survey Data", Survey Methodology 24, 1998: the exact interval of
C. J. Clopper and E. S. Pearson, Biometrika 26, 1934, at the effective number of reviewed rows.
"""

from typing import NamedTuple

import numpy as np
from scipy.stats import beta


class Estimate(NamedTuple):
    """A rate, and an interval around it.

    Attributes
    ----------
    rate : float
        Estimated, in [0, 1].
    low, high : float
        The interval that holds the true rate with the confidence asked for.
    """

    rate: float
    low: float
    high: float


def exact_interval(successes, trials, confidence):
    """Return the interval of Clopper and Pearson; the numbers need not be whole."""
    tail = (1 - confidence) / 2
    low = beta.ppf(tail, successes, trials - successes + 1) if successes > 0 else 0.0
    failures = trials - successes
    high = beta.ppf(1 - tail, successes + 1, failures) if failures > 0 else 1.0
    return float(low), float(high)


def effective_trials(rate, counts, reviewed, shares):
    """Return how many rows drawn from all would tell as much as those reviewed in strata.

    The variance takes a rate of (count + 1) / (reviewed + 2) for each stratum (S,), and so is above
    0 where a stratum's rows agree. At least what unequal shares a row leave: (sum w)^2 / sum w^2.
    """
    smooth = (counts + 1) / (reviewed + 2)
    variance = (shares**2 * smooth * (1 - smooth) / reviewed).sum()
    return max(rate * (1 - rate) / variance, 1 / (shares**2 / reviewed).sum())


def stratified_estimate(counts, reviewed, sizes, n_samples, confidence) -> Estimate:
    """Estimate the rate in all rows.

    Parameters
    ----------
    counts, reviewed, sizes : array-like of shape (n_strata,)
        For each stratum with reviewed rows: those of them that count, all reviewed, and how many
        rows it has.
    n_samples : int
        Rows of all strata; those of strata without a reviewed row widen the interval.
    confidence : float
        How often the interval shall hold the true rate, below 1.
    """
    counts, reviewed, sizes = (np.asarray(a, dtype=np.float64) for a in (counts, reviewed, sizes))
    shares = sizes / sizes.sum()
    rate = float((shares * counts / reviewed).sum())
    trials = effective_trials(rate, counts, reviewed, shares)
    low, high = exact_interval(rate * trials, trials, confidence)
    covered = sizes.sum() / n_samples
    low = max(low * covered, counts.sum() / n_samples)  # what was seen is certain
    high = min(high * covered + 1 - covered, 1 - (reviewed - counts).sum() / n_samples)
    return Estimate(rate, float(min(low, rate)), float(max(high, rate)))
