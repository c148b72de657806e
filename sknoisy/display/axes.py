"""What the plots have in common: axes, colors, names."""

import numpy as np

GIVEN, BELIEVED, THIRD = "#d95f02", "#1b6ca8", "#4d4d4d"  # distinct without color vision too
MAX_WRITTEN = 12  # classes whose cells have room for numbers
MAX_TICKS = 25  # class names that fit along an axis
MAX_NAME = 14  # characters of a class name


def new_axes(ax, size, n_columns=1):
    """Return the axes given, or those of a new figure of this size in inches."""
    if ax is not None:
        return ax
    try:
        from matplotlib import pyplot as plt
    except ImportError as error:
        raise ImportError(
            "Displays need matplotlib; install it with: pip install 'sknoisy[plot]'."
        ) from error
    return plt.subplots(1, n_columns, figsize=size, layout="constrained")[1]


def short(label, length=MAX_NAME):
    """Return the name, its middle left out if it is long: names differ at the ends."""
    text, half = str(label), (length - 1) // 2
    text = text if len(text) <= length else f"{text[:half]}…{text[-half:]}"
    return text.replace("$", r"\$")  # no mathematics


def class_ticks(classes):
    """Return positions and names of the classes that fit along an axis."""
    step = -(-len(classes) // MAX_TICKS)
    places = np.arange(0, len(classes), step)
    return places, [short(classes[place]) for place in places]
