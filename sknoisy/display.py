"""Plots of label noise, in scikit-learn's Display convention; they need matplotlib."""

from itertools import groupby
from numbers import Integral

import numpy as np

from sknoisy.issues import judged, label_quality, noise_transition_matrix

GIVEN, BELIEVED, THIRD = "#d95f02", "#1b6ca8", "#4d4d4d"  # distinct without color vision too
MAX_WRITTEN = 12  # classes whose cells have room for numbers
MAX_TICKS = 25  # class names that fit along an axis
MAX_NAME = 14  # characters of a class name


def _new_axes(ax, size):
    if ax is not None:
        return ax
    try:
        from matplotlib import pyplot as plt
    except ImportError as error:
        raise ImportError(
            "Displays need matplotlib; install it with: pip install 'sknoisy[plot]'."
        ) from error
    return plt.subplots(figsize=size, layout="constrained")[1]


def _short(label, length=MAX_NAME):
    """Return the name, its middle left out if it is long: names differ at the ends."""
    text, half = str(label), (length - 1) // 2
    text = text if len(text) <= length else f"{text[:half]}…{text[-half:]}"
    return text.replace("$", r"\$")  # no mathematics


def _class_ticks(classes):
    """Return positions and names of the classes that fit along an axis."""
    step = -(-len(classes) // MAX_TICKS)
    places = np.arange(0, len(classes), step)
    return places, [_short(classes[place]) for place in places]


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
        """Plot the matrix estimated from a fitted estimator's soft labels."""
        matrix = noise_transition_matrix(estimator)
        return cls(matrix, display_labels=estimator.classes_).plot(ax=ax, cmap=cmap)

    @classmethod
    def from_predictions(cls, y, pred_probs, *, classes=None, ax=None, cmap="Blues"):
        """Plot the estimate from labels y and out-of-sample probabilities (n_samples, C)."""
        matrix = noise_transition_matrix(y=y, pred_probs=pred_probs, classes=classes)
        classes = judged(None, y, pred_probs, classes)[2]
        return cls(matrix, display_labels=classes).plot(ax=ax, cmap=cmap)

    def plot(self, *, ax=None, cmap="Blues"):
        """Plot the matrix; the color scale is that of the errors, and the diagonal is gray."""
        n_classes = len(self.noise_matrix)
        ax = _new_axes(ax, (6.4, 5.4))
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
        places, names = _class_ticks(self.display_labels)
        upright = 0 if sum(map(len, names)) <= 20 else 90
        ax.set_xticks(places, names, rotation=upright)
        ax.set_yticks(places, names)
        ax.set(xlabel="given label", ylabel="believed class")
        self.ax_, self.figure_ = ax, ax.figure
        return self


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
        """Plot the labels of lowest quality of a fitted estimator; X as in fit adds images."""
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
        proba, given, classes = found
        rows = np.argsort(label_quality(proba, given), kind="stable")[:n_rows]
        issues = []
        for row in rows:
            best = proba[row].argmax()
            own = proba[row, given[row]]
            issues.append((row, classes[given[row]], classes[best], own, proba[row, best]))
        return cls(issues, images=_images(X, rows, len(given))).plot(ax=ax)

    def plot(self, *, ax=None):
        """Plot the labels."""
        self.images_, self.text_, self.bars_ = [], [], None
        if self.images is None:
            ax = _new_axes(ax, (6.4, 1.2 + 0.36 * len(self.issues)))
            self._plot_bars(ax)
        else:
            columns = min(len(self.issues), 6)
            ax = _new_axes(ax, (1.5 * columns, 1.8 * -(-len(self.issues) // columns)))
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
        names = [f"row {i[0]}: {_short(i[1])} → {_short(i[2])}" for i in self.issues]
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
        pairs = [(_short(issue[1]), _short(issue[2])) for issue in self.issues]
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
    read = [X[int(row)] for row in rows]
    images = [np.asarray(row[0] if isinstance(row, tuple) else row) for row in read]
    if images[0].ndim < 2:
        return None
    return [_image(image) for image in images]


def _image(image):
    if image.ndim == 3 and image.shape[0] in (1, 3) and image.shape[2] not in (1, 3):
        image = image.transpose(1, 2, 0)
    if image.ndim == 3 and image.shape[2] == 1:
        image = image[..., 0]
    if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] != 3):
        raise ValueError(
            f"X must hold images with 1 or 3 channels, got rows of shape {image.shape}."
        )
    if image.dtype == np.uint8:
        return image / 255
    image = image.astype(np.float64)
    low, high = min(image.min(), 0.0), image.max()
    if low < 0 or high > 1:
        low = image.min()
        return (image - low) / max(high - low, 1e-12)
    return image


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
        """Plot the training of a fitted estimator."""
        history = estimator.history_
        callback = estimator.net_.label_callback
        phases = [callback.phase(epoch) for epoch in range(1, len(history) + 1)]
        return cls(history, phases=phases).plot(ax=ax)

    def plot(self, *, ax=None):
        """Plot the curves."""
        ax = _new_axes(ax, (7.2, 4.2))
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
