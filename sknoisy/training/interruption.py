"""Ctrl-C during a fit: how to detect it, and whether the fit is one of several."""

import dis
import functools
import inspect
import signal


def is_raised_by_code(error: KeyboardInterrupt) -> bool:
    """Return whether code, such as skorch's callbacks, raised the error, rather than Ctrl-C."""
    handler = signal.getsignal(signal.SIGINT)
    while isinstance(handler, functools.partial):
        handler = handler.func
    if not hasattr(handler, "__code__"):
        handler = getattr(type(handler), "__call__", None)  # noqa: B004 - its code, not whether
    code = getattr(handler, "__code__", None)
    traces = [error.__traceback__]
    while traces[-1].tb_next is not None:
        traces.append(traces[-1].tb_next)
    if any(trace.tb_frame.f_code is code for trace in traces):
        return False
    trace = traces[-1]
    opcode = trace.tb_frame.f_code.co_code[trace.tb_lasti]
    return opcode == dis.opmap["RAISE_VARARGS"]


def is_called_by_joblib():
    """Return whether this is one of several fits, as in cross-validation, in a worker or not."""
    frame = inspect.currentframe()
    while frame is not None:
        if frame.f_globals.get("__name__", "").startswith("joblib."):
            return True
        frame = frame.f_back
    return False
