"""Warnings that point at the user's own line."""

import inspect
import warnings

# What stands between the user's line and the place that warns.
BETWEEN = ("sknoisy", "sklearn", "skorch", "torch", "joblib", "contextlib")


def warn(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn at the line of the user's that called into the library, however deep this is.

    In a thread or process that another library started there is none: then where that begins.
    """
    frame, level = inspect.currentframe().f_back, 1
    while frame is not None and _package(frame) in BETWEEN:
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level + 1)


def _package(frame):
    return frame.f_globals.get("__name__", "").partition(".")[0]
