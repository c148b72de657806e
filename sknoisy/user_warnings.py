"""Warnings that point at the user's own line."""

import inspect
import threading
import warnings
from contextlib import contextmanager
from contextvars import ContextVar
from weakref import WeakKeyDictionary

# What stands between the user's line and the place that warns.
BETWEEN = ("sknoisy", "sklearn", "skorch", "torch", "joblib", "contextlib")
STARTERS = ("threading", "multiprocessing", "concurrent", "distributed")


SEARCHES = "sklearn.model_selection"
# The places that have warned in a search or cross-validation, by the object that runs it, or the
# thread where another library has started that.
_told = WeakKeyDictionary()
_told_in_fit = ContextVar("what a fit has warned of", default=None)


@contextmanager
def each_once():
    """Within the block warn of the same once, however many networks of a fit meet it."""
    token = _told_in_fit.set(set())
    try:
        yield
    finally:
        _told_in_fit.reset(token)


def warn(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn at the line of the user's that called into the library, however deep this is.

    In a thread or process that another library started there is none: then where that begins.
    In a search or cross-validation each place warns once, however many fits there are.
    """
    told = _told_in_fit.get()
    if told is not None:
        if message in told:
            return
        told.add(message)
    caller = frame = inspect.currentframe().f_back
    level, search = 1, None
    while frame is not None and _package(frame) in BETWEEN:
        if frame.f_globals["__name__"].startswith(SEARCHES):
            search = frame
        frame, level = frame.f_back, level + 1
    if search is not None:
        owner = search.f_locals.get("self", search.f_locals.get("estimator"))
        is_worker = owner is None or frame is None or _package(frame) in STARTERS
        told = _told.setdefault(threading.current_thread() if is_worker else owner, set())
        place = caller.f_code.co_filename, caller.f_lineno
        if place in told:
            return
        told.add(place)
    warnings.warn(message, category, stacklevel=level + 1)


def listed(names, most: int = 5) -> str:
    """Return the first of some names, and how many there are more."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(str(name) for name in names[:most]) + more


def _package(frame):
    return frame.f_globals.get("__name__", "").partition(".")[0]
