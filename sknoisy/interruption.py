"""Ctrl-C during a fit: whether it was one, and whether others wait for this fit."""

import dis
import inspect
import signal


def is_raised_by_code(error: KeyboardInterrupt) -> bool:
    """Tell a `raise KeyboardInterrupt`, by which skorch's callbacks end training, from Ctrl-C."""
    handler = getattr(signal.getsignal(signal.SIGINT), "__code__", None)
    trace = error.__traceback__
    while trace.tb_next is not None:
        trace = trace.tb_next
    if trace.tb_frame.f_code is handler:
        return False
    opcode = trace.tb_frame.f_code.co_code[trace.tb_lasti]
    return opcode == dis.opmap["RAISE_VARARGS"]


def is_called_by_joblib():
    """Tell whether this is one of several fits, as in cross-validation, in a worker or not."""
    frame = inspect.currentframe()
    while frame is not None:
        if frame.f_globals.get("__name__", "").startswith("joblib."):
            return True
        frame = frame.f_back
    return False
