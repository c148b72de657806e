"""The fingerprint of a fit: its data, parameters and versions, as texts that can be compared."""

import hashlib
import inspect
from functools import partial

import numpy as np
import torch
from skorch.callbacks import Callback
from torch import Tensor

from sknoisy._version import __version__

CHUNK_ROWS = 4096
OTHERS_CODE = ("torch", "torchvision", "skorch", "sklearn", "numpy", "sknoisy")  # have versions
NO_MATTER = (
    "verbose",
    "checkpoint_dir",
    "distributed",
    "skorch_params",
)  # parameters that change no fit


def versions() -> dict[str, str]:
    """Return the versions that the result of a fit depends on."""
    return {"sknoisy": __version__, "torch": torch.__version__.split("+")[0]}


def parts_of(rows) -> list:
    """Return the arrays, or the Dataset, that a CSR matrix or stacked rows are made of."""
    if hasattr(rows, "indptr"):
        return [rows.data, rows.indices, rows.indptr]
    if hasattr(rows, "parts"):  # of `StackedRows` and `DoubleRows`
        return [part for stacked in rows.parts for part in parts_of(stacked)]
    return [rows]


def digest(*arrays) -> str:
    """Return a digest of arrays, CSR matrices or sets of rows (see `RowDataset`)."""
    found = hashlib.sha256()
    for array in arrays:
        if array is None:
            continue
        if isinstance(array, Tensor | list | tuple):
            array = np.asarray(array)
        if array.shape == ():  # such as BatchNorm's count of batches
            array = array[None]
        found.update(f"{array.shape} {getattr(array, 'dtype', '')}".encode())
        for part in parts_of(array):
            if isinstance(part, np.ndarray):
                for k in range(0, len(part), CHUNK_ROWS):
                    found.update(np.ascontiguousarray(part[k : k + CHUNK_ROWS]).tobytes())
            else:  # a Dataset: reading it all may take as long as an epoch
                ends = [*range(min(8, len(part))), *range(max(0, len(part) - 8), len(part))]
                found.update(np.ascontiguousarray(part[np.array(ends)]).tobytes())
    return found.hexdigest()


def describe(value, depth=4) -> str:
    """Return a text that is the same for the same parameter in another process.

    The user's classes and functions are identified by their source as well, objects by their
    attributes, down to `depth` nested objects.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return repr(value)
    if isinstance(value, torch.nn.Module):
        arrays = [tensor.numpy(force=True) for tensor in value.state_dict().values()]
        layers = hashlib.sha256(repr(value).encode()).hexdigest()
        return f"{type(value).__name__} <{digest(*arrays)[:8]}{layers[:8]}>"
    if isinstance(value, np.ndarray | Tensor):
        return f"<{digest(np.asarray(value))[:16]}>"
    if isinstance(value, np.random.RandomState):
        return f"RandomState <{digest(value.get_state()[1])[:16]}>"
    if isinstance(value, list | tuple):
        return f"[{', '.join(describe(v, depth) for v in value)}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{k!r}: {describe(v, depth)}' for k, v in value.items())}}}"
    if isinstance(value, partial):
        return f"partial({describe([value.func, value.args, value.keywords], depth)})"
    if isinstance(value, type) or inspect.isroutine(value):
        return f"{value.__module__}.{value.__qualname__}{_source_digest(value)}"
    kind = f"{type(value).__module__}.{type(value).__qualname__}{_source_digest(type(value))}"
    if depth and hasattr(value, "__dict__"):
        attributes = vars(value)
        if isinstance(value, Callback):  # its parameters: the rest comes about in fits
            parameters = inspect.signature(type(value)).parameters
            takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
            attributes = {
                name: attribute
                for name, attribute in attributes.items()
                if name in parameters or (takes_any and not name.endswith("_"))
            }
        return f"{kind}({describe(attributes, depth - 1)})"
    return kind


def _source_digest(value):
    """Return a digest of the source of a class or function that no version identifies."""
    if (value.__module__ or "").partition(".")[0] in OTHERS_CODE:
        return ""
    try:
        source = inspect.getsource(value)
    except (OSError, TypeError):  # typed at a prompt, or compiled
        return ""
    return f" <{hashlib.sha256(source.encode()).hexdigest()[:16]}>"


def fingerprint_of(estimator, data: dict) -> dict[str, str]:
    """Return what a resumed fit must have in common with the interrupted one, by name.

    Parameters
    ----------
    estimator : estimator
        All its parameters are included except those that change no fit.
    data : dict of str to list
        Arrays, CSR matrices, sets of rows or None, under the names that errors use.
    """
    params = {
        name: describe(value)
        for name, value in estimator.get_params(deep=False).items()
        if name not in NO_MATTER
    }
    return {
        "estimator": type(estimator).__name__,
        **{f"version of {name}": version for name, version in versions().items()},
        **params,
        **{name: f"<{digest(*found)[:16]}>" for name, found in data.items()},
    }
