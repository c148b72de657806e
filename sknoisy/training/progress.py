"""What a user sees of a fit that takes long."""

import logging
from time import perf_counter

from skorch.callbacks import Callback, ProgressBar

from sknoisy.training.user_callbacks import objects_of

LONG_SECONDS = 60
NETS_OF_EVIDENCE = 4  # each on half of the rows: two plainly, two by the method

# A warning would be an error where warnings are, on a slow machine alone.
logger = logging.getLogger("sknoisy")


class FitClock(Callback):
    """Say once in a process that a fit will take over a minute, where nothing shows how far it is.

    One object watches all nets of a fit; with `verbose` it prints a line for each of evidence's.

    Parameters
    ----------
    max_epochs : int
        Of the fit.
    has_evidence : bool
        Whether nets on half of the rows come first.
    verbose : bool
        Whether a line is printed.
    is_silent : bool
        Whether nothing else shows progress.
    """

    has_told = False  # in this process

    def __init__(self, max_epochs, has_evidence, verbose, is_silent):
        self.max_epochs = max_epochs
        self.has_evidence = has_evidence
        self.verbose = verbose
        self.is_silent = is_silent
        self.n_nets = self.n_epochs = 0

    @classmethod
    def of(cls, estimator, max_epochs, has_evidence, has_sklearn_callbacks) -> "FitClock":
        """Return the clock of an estimator's fit."""
        shown = has_sklearn_callbacks or any(
            cb is ProgressBar or isinstance(cb, ProgressBar)
            for cb in objects_of(estimator.callbacks or [])
        )
        verbose = bool(estimator.verbose)
        return cls(max_epochs, has_evidence, verbose, not (verbose or shown))

    def on_train_begin(self, net, **kwargs):
        """Count the nets."""
        self.n_nets += 1
        self.begun = self.epoch_begun = perf_counter()

    def on_epoch_begin(self, net, **kwargs):
        """Note the time."""
        self.epoch_begun = perf_counter()

    def on_epoch_end(self, net, **kwargs):
        """Foretell the time of the fit by its second epoch: the first loads and compiles."""
        self.n_epochs += 1
        if self.n_epochs != 2 or not self.is_silent or FitClock.has_told:
            return
        seconds = self.expected_seconds(perf_counter() - self.epoch_begun)
        if seconds > LONG_SECONDS:
            FitClock.has_told = True
            minutes = round(seconds / 60)
            faster = ", evidence=False halves the time" if self.has_evidence else ""
            logger.warning(
                "sknoisy: this fit will take about %s. verbose=1 prints a line an epoch,"
                " callbacks=[skorch.callbacks.ProgressBar()] draws a bar%s.",
                "a minute" if minutes < 2 else f"{minutes} minutes",
                faster,
            )

    def expected_seconds(self, epoch_seconds: float) -> float:
        """Return the time of a fit whose first net takes so long for an epoch."""
        nets = NETS_OF_EVIDENCE if self.has_evidence else 1
        return nets * self.max_epochs * epoch_seconds

    def on_train_end(self, net, **kwargs):
        """Print what evidence's nets took; the net of the fit has its own table."""
        if self.verbose and self.has_evidence and net.is_auxiliary:
            more = self.n_nets - NETS_OF_EVIDENCE
            name = f"network {self.n_nets} of {NETS_OF_EVIDENCE}"
            if more > 0:
                name = f"network {more} to judge labels out of sample"
            print(
                f"evidence: {name}, {len(net.history)} epochs, {perf_counter() - self.begun:.1f} s"
            )
