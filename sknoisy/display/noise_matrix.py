"""Heat map of the noise transition matrix."""

import numpy as np

from sknoisy.display.axes import MAX_WRITTEN, class_ticks, new_axes
from sknoisy.issues import judged, noise_transition_matrix
from sknoisy.pipeline import fitted_estimator


class NoiseMatrixDisplay:
    """Heat map of the estimated noise transition matrix, p(given label | true class).

    Use `from_estimator` or `from_predictions`.

    Parameters
    ----------
    noise_matrix : ndarray of shape (n_classes, n_classes)
        Entry (i, j): probability that a row of class i has the given label j.
    display_labels : ndarray of shape (n_classes,)
        The classes.

    Attributes
    ----------
    ax_, figure_ : matplotlib Axes and Figure
    im_ : matplotlib AxesImage
    text_ : ndarray of shape (n_classes, n_classes) of matplotlib Text or None
        The numbers in the cells, in percent; None above 12 classes.
    """

    def __init__(self, noise_matrix, *, display_labels):
        self.noise_matrix = noise_matrix
        self.display_labels = display_labels

    @classmethod
    def from_estimator(cls, estimator, *, ax=None, cmap="Blues"):
        """Plot the matrix estimated for a fitted estimator, see `noise_transition_matrix`.

        Or of one that ends a Pipeline or search.
        """
        estimator = fitted_estimator(estimator)
        matrix = noise_transition_matrix(estimator)
        return cls(matrix, display_labels=estimator.classes_).plot(ax=ax, cmap=cmap)

    @classmethod
    def from_predictions(cls, y, pred_probs, *, classes=None, ax=None, cmap="Blues"):
        """Plot the estimate from labels y and out-of-sample probabilities (n_samples, C)."""
        matrix = noise_transition_matrix(y=y, pred_probs=pred_probs, classes=classes)
        classes = judged(None, y, pred_probs, classes).classes
        return cls(matrix, display_labels=classes).plot(ax=ax, cmap=cmap)

    def plot(self, *, ax=None, cmap="Blues"):
        """Plot the matrix; the color scale is that of the errors, and the diagonal is gray."""
        n_classes = len(self.noise_matrix)
        ax = new_axes(ax, (6.4, 5.4))
        wrong = np.ma.masked_array(self.noise_matrix, np.eye(n_classes, dtype=bool))
        top = wrong.max() or 1.0
        ax.set_facecolor("#d9d9d9")
        self.im_ = ax.imshow(100 * wrong, cmap=cmap, vmin=0, vmax=100 * top)
        ax.figure.colorbar(self.im_, ax=ax, label="rows of the believed class, %")
        self.text_ = None
        if n_classes <= MAX_WRITTEN:
            self.text_ = np.empty((n_classes, n_classes), dtype=object)
            for (i, j), rate in np.ndenumerate(self.noise_matrix):
                color = "white" if i != j and rate > 0.6 * top else "black"
                text = f"{100 * rate:.0f}" if rate >= 0.005 else ""
                self.text_[i, j] = ax.text(j, i, text, ha="center", va="center", color=color)
        places, names = class_ticks(self.display_labels)
        upright = 0 if sum(map(len, names)) <= 20 else 90
        ax.set_xticks(places, names, rotation=upright)
        ax.set_yticks(places, names)
        ax.set(xlabel="given label", ylabel="believed class")
        self.ax_, self.figure_ = ax, ax.figure
        return self
