"""What evidence tells, as a test wants it."""

from contextlib import contextmanager
from dataclasses import replace
from unittest import mock

from sknoisy.training import cross_fit, relabeling

HELPS, HARMS = (0.1, 0.01), (-0.1, 0.01)


@contextmanager
def told(first, both=HELPS, pooled=None):
    """Let evidence say that correcting harms, and what labels that held-out rows judge bring.

    To labels of the first fold, to those of both, and pooled with trusted ones.
    """
    compare = cross_fit.compare
    harms = {"is_corrected": False, "gain": -0.1, "gain_error": 0.01}
    with (
        mock.patch.object(cross_fit, "compare", lambda *a: replace(compare(*a), **harms)),
        mock.patch.object(cross_fit, "compare_with_linear", return_value=None),
        mock.patch.object(relabeling, "paired", return_value=first),
        mock.patch.object(relabeling, "gains", return_value=(both, None, pooled or both)),
    ):
        yield
