"""Fitted estimators in skops' files: the contents of `save`, as types that skops has."""

import inspect
import json
from contextlib import suppress

import torch

from sknoisy.storage.estimator_file import contents_of, estimator_of
from sknoisy.storage.file_format import AllowList

KEY = "sknoisy"
FITTED = "_row_format", "evidence_", "_row_index"


def is_called_by_skops() -> bool:
    """Return whether skops called the caller of this function."""
    caller = inspect.currentframe().f_back.f_back
    return caller is not None and caller.f_globals.get("__name__", "").startswith("skops.")


def imports_of(encoded):
    """Yield the import paths in parameters that `encode` has encoded."""
    if isinstance(encoded, dict):
        if isinstance(encoded.get("import"), str):
            yield encoded["import"]
        encoded = list(encoded.values())
    if isinstance(encoded, list):
        for value in encoded:
            yield from imports_of(value)


def state_of(estimator, *fitted) -> dict:
    """Return a fitted estimator as text, arrays, and the classes and functions of its user's."""
    document, tensors = contents_of(estimator, *fitted)
    named = {}
    for path in imports_of([document["params"], document["label_params"]]):
        with suppress(ValueError):
            AllowList(())[path]  # torch's own are found by name
            continue
        named[path] = AllowList.find(path)
    return {
        KEY: json.dumps(document),
        "tensors": {name: tensor.numpy(force=True) for name, tensor in tensors.items()},
        "named": named,
    }


def attributes_from(state: dict, cls, new_labels) -> dict:
    """Return the attributes of the estimator of which `state_of` returned the state."""
    tensors = {name: torch.from_numpy(array) for name, array in state["tensors"].items()}
    allowed = AllowList(dict(state["named"]))  # of a list it would import what the file names
    estimator, fitted = estimator_of(
        json.loads(state[KEY]), tensors, "a file of skops", cls, new_labels, allowed
    )
    return {**vars(estimator), **dict(zip(FITTED, fitted, strict=True))}


class SkopsMixin:
    """What skops calls to write and to read an estimator; pickle does what it always does."""

    def __getstate__(self):
        if is_called_by_skops() and hasattr(self, "net_"):
            return state_of(self, *(getattr(self, name) for name in FITTED))
        return super().__getstate__()

    def __setstate__(self, state):
        if KEY in state:
            state = attributes_from(state, type(self), self._new_label_callback)
        super().__setstate__(state)
