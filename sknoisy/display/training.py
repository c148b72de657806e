"""Curves of a training."""

from itertools import groupby

import numpy as np

from sknoisy.display.axes import BELIEVED, GIVEN, THIRD, new_axes
from sknoisy.pipeline import fitted_estimator


class TrainingDisplay:
    """Loss, fraction of labels changed and mean confidence of the soft labels, epoch by epoch.

    Use `from_estimator`.

    Parameters
    ----------
    history : skorch.history.History
        With ``train_loss``, ``labels_changed`` and ``confidence`` in each epoch.
    phases : list of str
        Name of the phase of each epoch.

    Attributes
    ----------
    ax_, figure_ : matplotlib Axes and Figure
        Axes of the loss.
    share_ax_ : matplotlib Axes
        Axes of the two fractions, on the right.
    lines_ : dict of matplotlib Line2D
        The curves by their names in the history.
    spans_ : list of matplotlib patches
        The shaded spans of the phases.
    """

    def __init__(self, history, *, phases):
        self.history = history
        self.phases = phases

    @classmethod
    def from_estimator(cls, estimator, *, ax=None):
        """Plot the training of a fitted estimator, or of one that ends a Pipeline or search."""
        estimator = fitted_estimator(estimator)
        history = estimator.history_
        callback = estimator.net_.label_callback
        phases = [callback.phase(epoch) for epoch in range(1, len(history) + 1)]
        return cls(history, phases=phases).plot(ax=ax)

    def plot(self, *, ax=None):
        """Plot the curves."""
        ax = new_axes(ax, (7.2, 4.2))
        from matplotlib.ticker import MaxNLocator

        epochs = np.arange(1, len(self.history) + 1)
        fraction_ax = ax.twinx()
        marker = "o" if len(epochs) == 1 else None
        self.lines_ = {}
        for axes, name, label, color, style in (
            (ax, "train_loss", "loss, nats", THIRD, "-"),
            (fraction_ax, "labels_changed", "labels changed", GIVEN, "--"),
            (fraction_ax, "confidence", "confidence", BELIEVED, ":"),
        ):
            values = self.history[:, name]
            (line,) = axes.plot(
                epochs, values, style, color=color, label=label, linewidth=2, marker=marker
            )
            self.lines_[name] = line
        self.spans_ = []
        start = 0.5
        for k, (phase, run) in enumerate(groupby(self.phases)):
            end = start + len(list(run))
            shade = ("#e9e9e9", "#f7f7f7")[k % 2]
            self.spans_.append(ax.axvspan(start, end, color=shade, zorder=0, label=phase))
            wide = (end - start) / len(epochs) > 0.12
            ax.text(
                (start + end) / 2,
                0.985,
                phase,
                transform=ax.get_xaxis_transform(),
                ha="center",
                va="top",
                rotation=0 if wide else 90,
                color="#555555",
                fontsize=9,
            )
            start = end
        ax.set(xlabel="epoch", ylabel="loss, nats", xlim=(0.5, len(epochs) + 0.5))
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        low, high = min(0, ax.get_ylim()[0]), ax.get_ylim()[1]
        ax.set_ylim(low, high + 0.12 * (high - low))  # room for the names of the phases
        fraction_ax.set(ylabel="share of labels, mean confidence", ylim=(0, 1.16))
        fraction_ax.set_yticks(np.linspace(0, 1, 6))
        ax.legend(
            handles=list(self.lines_.values()),
            loc="lower center",
            bbox_to_anchor=(0.5, 1.0),
            ncols=3,
            frameon=False,
        )
        self.ax_, self.share_ax_, self.figure_ = ax, fraction_ax, ax.figure
        return self
