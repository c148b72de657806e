"""What held-out rows told of a fit: reliability diagram and curves."""

import numpy as np

from sknoisy.display.axes import BELIEVED, GIVEN, THIRD, new_axes
from sknoisy.pipeline import fitted_estimator

BINS = 10


class EvidenceDisplay:
    """Reliability of held-out predictions, and the loss of held-out labels epoch by epoch.

    Left: the fraction of held-out labels that were predicted, over the probability of the predicted
    label, in 10 bins that hold as many rows; on the diagonal probabilities are calibrated. Drawn
    for the networks as they are, and for the noise model, whose probabilities of *given* labels
    need no clean ones to be judged. Right: held-out cross-entropy of plain and of corrected
    training; dotted the epochs at which the former was kept. Use `from_estimator`.

    Parameters
    ----------
    evidence : Evidence
        `evidence_` of a fitted estimator.
    given : ndarray of shape (n_samples,)
        Class numbers of the given labels.

    Attributes
    ----------
    ax_ : ndarray of two matplotlib Axes
        The reliability diagram, and the curves.
    figure_ : matplotlib Figure
    lines_ : dict of matplotlib Line2D
        "before", "after", "plain" and "corrected".
    """

    def __init__(self, evidence, given):
        self.evidence = evidence
        self.given = given

    @classmethod
    def from_estimator(cls, estimator, *, ax=None):
        """Plot the evidence of a fitted estimator, or of one that ends a Pipeline or search.

        ax is a pair of Axes.
        """
        estimator = fitted_estimator(estimator)
        given = np.searchsorted(estimator.classes_, estimator.given_labels_)
        if estimator.evidence_ is None:
            raise ValueError(
                "estimator must have gathered evidence, got evidence_ None; fit it with"
                " evidence=True, on at least 50 rows that count, and for at least 4 epochs."
            )
        return cls(estimator.evidence_, given).plot(ax=ax)

    def plot(self, *, ax=None):
        """Plot both."""
        ax = self.ax_ = np.ravel(new_axes(ax, (9.6, 4.2), n_columns=2))
        if len(ax) != 2:
            raise ValueError(f"ax must be a pair of Axes, got {len(ax)}.")
        evidence, self.lines_ = self.evidence, {}
        held_out = evidence.is_held_out
        temperature = evidence.held_out_temperature
        if np.isnan(temperature):  # of an earlier version
            temperature = evidence.temperature
        logits = temperature * np.log(np.maximum(evidence.proba[held_out], 1e-300))
        before = np.exp(logits - logits.max(axis=1, keepdims=True))
        before /= before.sum(axis=1, keepdims=True)
        ax[0].plot([0, 1], [0, 1], color=THIRD, linewidth=1)
        after = evidence.proba[held_out] @ evidence.transition
        tables = [("before", before, GIVEN, "as they are")]
        tables += [("after", after, BELIEVED, "by the noise model")]
        for name, proba, color, label in tables:
            x, y = reliability_curve(proba, self.given[held_out])
            (self.lines_[name],) = ax[0].plot(x, y, "o-", color=color, label=label, linewidth=2)
        ax[0].set(
            xlabel="probability of the predicted label",
            ylabel="held-out labels predicted",
            xlim=(0, 1.02),
            ylim=(0, 1.02),
        )
        for name, losses, color, style in (
            ("plain", evidence.losses_plain, GIVEN, "--"),
            ("corrected", evidence.losses_corrected, BELIEVED, "-"),
        ):
            epochs = np.arange(1, len(losses) + 1)
            (self.lines_[name],) = ax[1].plot(
                epochs, losses, style, color=color, label=name, linewidth=2
            )
        for epoch in {evidence.warmup_epochs, evidence.plain_epochs}:
            ax[1].axvline(epoch, color=THIRD, linewidth=1, linestyle=":")
        ax[1].set(xlabel="epoch", ylabel="loss of held-out labels, nats")
        for axes in ax:
            axes.legend(frameon=False)
        self.figure_ = ax[0].figure
        return self


def reliability_curve(proba, given):
    """Return mean confidence and accuracy, each (n_bins,), of rows in bins of equal size."""
    confidence, hits = proba.max(axis=1), proba.argmax(axis=1) == given
    bins = np.array_split(np.argsort(confidence, kind="stable"), min(BINS, len(given)))
    return (
        np.array([confidence[rows].mean() for rows in bins]),
        np.array([hits[rows].mean() for rows in bins]),
    )
