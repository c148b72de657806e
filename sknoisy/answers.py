"""What a function answers to parameters that it does not have."""

import inspect
from difflib import get_close_matches
from functools import wraps


def answers(elsewhere: dict):
    """Have a function or method name the way out where it is called with a parameter it lacks.

    That is what `elsewhere` says of it, or a class beside the object's own whose method has it, or
    the nearest name.
    """

    def decorate(function):
        known = [name for name in inspect.signature(function).parameters if name != "self"]

        @wraps(function)
        def answering(*args, **params):
            for name in params.keys() - set(known):
                raise TypeError(_answer(function.__name__, args, name, known, elsewhere))
            return function(*args, **params)

        return answering

    return decorate


def _answer(function, args, name, known, elsewhere):
    owner = type(args[0]) if args and hasattr(type(args[0]), function) else None
    beside = [] if owner is None else owner.__base__.__subclasses__()
    takers = [c for c in beside if name in inspect.signature(getattr(c, function)).parameters]
    close = get_close_matches(name, known, n=1)
    if name in elsewhere:
        out = f"{elsewhere[name]}."
    elif takers:
        out = f"{takers[0].__name__}.{function} has it."
    else:
        out = f"did you mean {close[0]}?" if close else f"it takes {', '.join(known)}."
    called = function if owner is None else f"{owner.__name__}.{function}"
    return f"{called} has no parameter {name}: {out}"
