"""Which rows a page shows: those that look worst, a fair sample, both, or chosen ones."""

from dataclasses import dataclass
from numbers import Integral

import numpy as np
from sklearn.utils import check_random_state

MODES = ("issues", "sample", "mixed")
STRATA = ("unlikely", "unsure", "sure")  # label quality below 0.5, below SURE, and above
SURE = 0.8


@dataclass(frozen=True)
class Selection:
    """Rows of a page, in its order.

    Attributes
    ----------
    rows : ndarray of shape (m,)
        Their numbers in X and y.
    origins : list of str of length m
        What each was taken for: 'issue', 'sample' or 'chosen'.
    strata : list of str of length m
        The stratum that a row of the sample was drawn from, else ''.
    sizes : list of int of length m
        How many rows that stratum has, else 0.
    """

    rows: np.ndarray
    origins: list
    strata: list
    sizes: list

    @classmethod
    def of(cls, rows, origin) -> "Selection":
        """Return rows that belong to no sample."""
        n = len(rows)
        return cls(np.asarray(rows), [origin] * n, [""] * n, [0] * n)

    def then(self, other) -> "Selection":
        """Return these rows, and after them others."""
        return Selection(
            np.concatenate([self.rows, other.rows]),
            self.origins + other.origins,
            self.strata + other.strata,
            self.sizes + other.sizes,
        )


def select_rows(rows, n_rows, given, quality, random_state) -> Selection:
    """Select by `rows`, a mode or an array, from labels (n,), class numbers, of a quality (n,)."""
    if not isinstance(rows, str):
        return Selection.of(_chosen(rows, len(given)), "chosen")
    if rows not in MODES:
        raise ValueError(f"rows must be one of {MODES}, or an array of row numbers, got {rows!r}.")
    if not isinstance(n_rows, Integral) or n_rows < 1:
        raise ValueError(f"n_rows must be an integer of at least 1, got {n_rows!r}.")
    n_rows = min(int(n_rows), len(given))
    worst = np.argsort(quality, kind="stable")
    if rows == "issues":
        return Selection.of(worst[:n_rows], "issue")
    rng = check_random_state(random_state)
    if rows == "sample":
        return draw_sample(given, quality, n_rows, rng)
    sample = draw_sample(given, quality, max(n_rows // 2, 1), rng)
    others = worst[~np.isin(worst, sample.rows)][: n_rows - len(sample.rows)]
    return Selection.of(others, "issue").then(sample)


def _chosen(rows, n_samples):
    """Return the row numbers of an array, or of a mask."""
    rows = np.asarray(rows)
    if rows.dtype == bool and rows.shape == (n_samples,):
        rows = np.flatnonzero(rows)
    if rows.ndim != 1 or rows.dtype.kind not in "iu" or len(rows) == 0:
        raise ValueError(
            f"rows must be a mode of {MODES}, row numbers (m,), m at least 1, or a mask of"
            f" {n_samples} rows, got {rows.dtype} of shape {rows.shape}."
        )
    if rows.min() < 0 or rows.max() >= n_samples or len(np.unique(rows)) < len(rows):
        raise ValueError(
            f"rows must be different numbers in [0, {n_samples}), got numbers in"
            f" [{rows.min()}, {rows.max()}], {len(np.unique(rows))} of {len(rows)} different."
        )
    return rows


def draw_sample(given, quality, n_rows, rng) -> Selection:
    """Draw rows at random, in proportion from each stratum and within it from each class.

    In a random order: those that are reviewed first are a fair sample as well.
    """
    stratum = (quality >= 0.5).astype(int) + (quality >= SURE)
    sizes = np.bincount(stratum, minlength=len(STRATA))
    drawn = [
        draw_by_class(np.flatnonzero(stratum == k), given, count, rng)
        for k, count in enumerate(proportional(sizes, n_rows))
    ]
    rows = rng.permutation(np.concatenate(drawn))
    return Selection(
        rows,
        ["sample"] * n_rows,
        [STRATA[k] for k in stratum[rows]],
        sizes[stratum[rows]].tolist(),
    )


def proportional(sizes, n_rows):
    """Split `n_rows` in proportion to sizes (S,), at least one for each that has rows."""
    share = sizes * n_rows / sizes.sum()
    counts = np.floor(share).astype(int)
    if n_rows >= (sizes > 0).sum():
        counts = np.maximum(counts, sizes > 0)
    while counts.sum() != n_rows:
        step = 1 if counts.sum() < n_rows else -1
        may = counts < sizes if step > 0 else counts > 1
        counts[np.where(may, step * (share - counts), -np.inf).argmax()] += step
    return counts


def draw_by_class(rows, given, count, rng):
    """Draw `count` of rows, each with the same probability, evenly over their classes.

    Systematic sampling of rows in a random order within classes, these in a random order.
    """
    if count == 0:
        return rows[:0]
    rows = rng.permutation(rows)
    place = rng.permutation(given.max() + 1)
    rows = rows[np.argsort(place[given[rows]], kind="stable")]
    return rows[np.floor((rng.random_sample() + np.arange(count)) * len(rows) / count).astype(int)]
