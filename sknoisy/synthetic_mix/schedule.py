"""The epochs of neighbor mixing and of updates."""

from typing import NamedTuple

from sknoisy.user_warnings import warn

MIXED = 0.8  # the fraction of the epochs after which mixing ends
FEWEST_UPDATES = 10  # before mixing ends, so that labels flip at momentum 0.9


class Schedule(NamedTuple):
    """The first and the last epoch of mixing, counted from 1, and the epochs between updates."""

    start: int
    end: int
    every: int


def auto_schedule(warmup: int, max_epochs: int, start="auto", end="auto", every="auto") -> Schedule:
    """Return the epochs of mixing and of updates, after so many of warm-up."""
    last = max_epochs if end == "auto" else min(end, max_epochs)
    if start == "auto":
        start = min(max(warmup + 2, round(max_epochs / 10)), last)
    if end == "auto":
        enough = start + FEWEST_UPDATES * (1 if every == "auto" else every) - 1
        last = min(max(round(MIXED * max_epochs), enough), max_epochs)
    if every == "auto":
        every = max(1, round((last - start + 1) / 18))
    return Schedule(start, last, every)


def warn_if_idle(max_epochs, schedule, momentum):
    """Warn where no label can be corrected."""
    start, end, every = schedule
    n_updates = len(range(start, end + 1, every))
    if n_updates == 0:
        warn(
            f"max_epochs must reach mix_start for any label to be corrected, got max_epochs="
            f"{max_epochs} and mix_start={start}.",
        )
    elif momentum**n_updates > 0.5:
        warn(
            "target_momentum ** updates must be at most 0.5, or no label can change, got"
            f" {momentum} ** {n_updates} in {max_epochs} epochs; raise max_epochs or mix_end, or"
            " lower target_momentum or target_update_every.",
        )
