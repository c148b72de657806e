"""The labels that are most probably wrong, as images or bars."""

from numbers import Integral

import numpy as np

from sknoisy.display.axes import BELIEVED, GIVEN, new_axes, short
from sknoisy.issues import judged
from sknoisy.pictures import as_picture, picture_of


class LabelIssuesDisplay:
    """The labels that are most probably wrong: images in a grid, other rows as bars.

    Use `from_estimator` or `from_predictions`.

    Parameters
    ----------
    issues : sequence of (row, given label, predicted label, given probability, \
            predicted probability)
        The worst labels, worst first.
    images : ndarray of shape (n_issues, height, width[, 3]) or None
        Images of these rows.

    Attributes
    ----------
    ax_, figure_ : matplotlib Axes and Figure
    images_ : list of matplotlib AxesImage
        The images, where there are some.
    bars_ : tuple of matplotlib BarContainer or None
        Probabilities of the given and of the predicted label, where there are no images.
    text_ : list of matplotlib Text
        The lines "given → predicted" above the images.
    """

    def __init__(self, issues, *, images=None):
        self.issues = issues
        self.images = images

    @classmethod
    def from_estimator(cls, estimator, X=None, *, n_rows=12, ax=None):
        """Plot the labels of lowest quality of a fitted estimator; X as in fit adds images.

        Or of one that ends a Pipeline or search. Rows are named by their positions in X.
        """
        return cls._from_probabilities(judged(estimator, None, None, None), X, n_rows, ax)

    @classmethod
    def from_predictions(cls, y, pred_probs, X=None, *, classes=None, n_rows=12, ax=None):
        """Plot the labels y of lowest quality under probabilities (n_samples, n_classes).

        X : images (n_samples, channels, height, width), (n_samples, height, width) or
        (n_samples, height, width, channels), bytes or numbers, or a Dataset of them; a table, or
        None, gives bars.
        """
        return cls._from_probabilities(judged(None, y, pred_probs, classes), X, n_rows, ax)

    @classmethod
    def _from_probabilities(cls, found, X, n_rows, ax):
        if not isinstance(n_rows, Integral) or n_rows < 1:
            raise ValueError(f"n_rows must be an integer of at least 1, got {n_rows!r}.")
        proba, given, classes, positions = found.proba, found.given, found.classes, found.rows
        worst = np.argsort(found.quality, kind="stable")[:n_rows]
        issues = []
        for k in worst:
            best, own = proba[k].argmax(), proba[k, given[k]]
            issues.append((positions[k], classes[given[k]], classes[best], own, proba[k, best]))
        return cls(issues, images=_images(X, positions[worst], len(found.all_proba))).plot(ax=ax)

    def plot(self, *, ax=None):
        """Plot the labels."""
        self.images_, self.text_, self.bars_ = [], [], None
        if self.images is None:
            ax = new_axes(ax, (6.4, 1.2 + 0.36 * len(self.issues)))
            self._plot_bars(ax)
        else:
            columns = min(len(self.issues), 6)
            ax = new_axes(ax, (1.5 * columns, 1.8 * -(-len(self.issues) // columns)))
            self._plot_images(ax)
        self.ax_, self.figure_ = ax, ax.figure
        return self

    def _plot_bars(self, ax):
        places = np.arange(len(self.issues))
        given = ax.barh(places - 0.2, [i[3] for i in self.issues], 0.4, color=GIVEN, label="given")
        best = ax.barh(
            places + 0.2, [i[4] for i in self.issues], 0.4, color=BELIEVED, label="believed"
        )
        self.bars_ = given, best
        names = [f"row {i[0]}: {short(i[1])} → {short(i[2])}" for i in self.issues]
        ax.set_yticks(places, names)
        ax.invert_yaxis()
        ax.set(xlabel="probability", xlim=(0, 1))
        ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, frameon=False)

    def _plot_images(self, ax):
        box, n = ax.get_window_extent(), len(self.issues)
        columns = round(np.sqrt(1.2 * n * box.width / box.height))  # cells are 1 wide, 1.2 high
        columns = min(max(columns, 1), n)
        lines = -(-n // columns)
        inches = min(box.width / columns, box.height / (1.2 * lines)) / ax.figure.dpi  # of a cell
        pairs = [(short(issue[1]), short(issue[2])) for issue in self.issues]
        longest = max(len(given) + len(predicted) + 3 for given, predicted in pairs)
        arrow = " → " if longest <= 13 * inches else "\n→ "
        widest = (
            longest if arrow == " → " else 2 + max(len(name) for pair in pairs for name in pair)
        )
        size = max(4.0, min(9.0, 110 * inches / widest))
        for k, (image, names) in enumerate(zip(self.images, pairs, strict=True)):
            middle, top = k % columns + 0.5, k // columns * 1.2
            high, wide = 0.46 * np.array(image.shape[:2]) / max(image.shape[:2])
            center = top + 0.7
            place = (middle - wide, middle + wide, center + high, center - high)
            self.images_.append(ax.imshow(image, cmap="gray", extent=place))
            self.text_.append(
                ax.text(
                    middle, top + 0.11, arrow.join(names), ha="center", va="center", fontsize=size
                )
            )
        ax.set(xlim=(0, columns), ylim=(1.2 * lines, 0), aspect="equal")
        ax.set_axis_off()


def _images(X, rows, n_samples):
    """Return the rows of X as images, channels last and in [0, 1], or None if X is a table."""
    if X is None:
        return None
    if not (hasattr(X, "__getitem__") and hasattr(X, "__len__")) or len(X) != n_samples:
        length = len(X) if hasattr(X, "__len__") else type(X).__name__
        raise ValueError(f"X must have {n_samples} rows, as the labels, got {length}.")
    if hasattr(X, "iloc") or getattr(X, "ndim", 3) == 2:
        return None
    images = [picture_of(X[int(row)]) for row in rows]
    if images[0].ndim < 2:
        return None
    return [as_picture(image) for image in images]
