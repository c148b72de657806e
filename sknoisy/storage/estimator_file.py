"""Fitted estimators to files and back: what is written, and how it is restored."""

import inspect
import json
import operator
import platform
from contextlib import suppress

import numpy as np
import torch

from sknoisy.inputs import RowFormat
from sknoisy.row_index import RowIndex
from sknoisy.rows import DoubleRows
from sknoisy.storage.file_format import FORMAT, AllowList, encode, read_file, write_file
from sknoisy.storage.fingerprint import versions
from sknoisy.storage.index_file import decode_index, encode_index
from sknoisy.training.evidence import Evidence
from sknoisy.training.features import unwrap
from sknoisy.training.net import resolve_device
from sknoisy.training.recipe import NetRecipe, module_parameters
from sknoisy.training.targets import SoftTargetLoss
from sknoisy.user_warnings import warn

NEEDED = ("module", "device", "amp")  # for predictions; others can be left out
# What starts processes or compilers, or writes files, is never read from a file.
NOT_SAVED = ("callbacks", "compile", "iterator_train", "iterator_valid", "checkpoint_dir")


def encode_labels(classes: np.ndarray) -> dict:
    """Return the labels as JSON with their type; TypeError for types without a form in JSON."""
    if classes.dtype.kind in "mM":
        return {"dtype": classes.dtype.str, "values": classes.astype(np.int64).tolist()}
    values = classes.tolist()
    if not all(isinstance(v, bool | int | float | str) for v in values):
        kinds = sorted({type(v).__name__ for v in values})
        raise TypeError(f"labels of type {', '.join(kinds)} cannot be saved")
    kind = "O" if classes.dtype == object else classes.dtype.str
    return {"dtype": kind, "values": values}


def decode_labels(written: dict) -> np.ndarray:
    """Return the labels that `encode_labels` wrote."""
    dtype = np.dtype(written["dtype"])
    values = np.array(written["values"], dtype=np.int64 if dtype.kind in "mM" else dtype)
    return values.astype(dtype)


def as_json(history) -> list:
    """Return skorch's history with Python's own numbers."""
    return json.loads(json.dumps(list(history), default=lambda value: value.item()))


def as_scalar(value):
    """Return numpy's numbers as Python's."""
    return value.item() if isinstance(value, np.generic) else value


def split_state(state: dict) -> tuple[dict, dict]:
    """Return what JSON holds of a label callback's state, and its tensors by dotted names."""
    scalars, tensors = {}, {}
    for name, value in state.items():
        value = as_scalar(value)
        if isinstance(value, torch.Tensor):
            tensors[name] = value
        elif value is None or isinstance(value, bool | int | float | str):
            scalars[name] = value
        elif isinstance(value, dict) and all(map(torch.is_tensor, value.values())):  # of a module
            scalars[name] = {}
            tensors |= {f"{name}.{key}": tensor for key, tensor in value.items()}
        else:
            raise TypeError(
                f"{name} must be a number, text, a tensor or a module to be saved, got"
                f" {type(value).__name__}."
            )
    return scalars, tensors


def join_state(scalars: dict, tensors: dict) -> dict:
    """Return the state that `split_state` split."""
    state = {name: {} if value == {} else value for name, value in scalars.items()}
    for path, tensor in tensors.items():
        name, _, key = path.partition(".")
        if key:
            state[name][key] = tensor
        else:
            state[name] = tensor
    return state


def encode_params(params: dict, defaults) -> dict:
    """Return an estimator's parameters as JSON; warn of those without such a form."""
    encoded, left_out = {}, []
    for name, value in params.items():
        if name.partition("__")[0] in NOT_SAVED:
            is_set = name not in defaults or value != defaults[name].default
            if is_set and name != "checkpoint_dir":
                left_out.append(name)
            continue
        try:
            encoded[name] = encode(value)
        except TypeError as error:
            if name in NEEDED or name.startswith("module__"):
                raise TypeError(
                    f"{name} must be importable to be saved: a class or function defined in a"
                    f" module, or a name of torchvision; {error}. Pass module=Net rather than"
                    " module=Net(), or keep the estimator by pickle."
                ) from error
            left_out.append(name)
    if left_out:
        warn(
            f"save leaves out {', '.join(left_out)}, which a loaded estimator has at the"
            " default; predictions do not need them."
        )
    return encoded


def encodable(params: dict) -> dict:
    """Return those of a label callback's parameters that JSON has a form for: others are data."""
    encoded = {}
    for name, value in params.items():
        with suppress(TypeError):
            encoded[name] = encode(value)
    return encoded


def write_estimator(path, estimator, *fitted) -> None:
    """Write a fitted estimator, see `contents_of`."""
    write_file(path, *contents_of(estimator, *fitted))


def contents_of(
    estimator, row_format: RowFormat, evidence: Evidence | None, row_index: RowIndex | None
) -> tuple[dict, dict]:
    """Return what a file of a fitted estimator holds: a document, for JSON, and tensors.

    What predictions, soft labels and fitted attributes need.
    """
    net = estimator.net_
    labels, names = net.label_callback, getattr(estimator, "feature_names_in_", None)
    learned, of_labels = split_state(labels.state_dict())
    tensors = {f"module.{k}": t for k, t in unwrap(net.module_).state_dict().items()}
    tensors |= {f"criterion.{k}": t for k, t in net.criterion_.named_buffers()}
    tensors |= {f"labels.{k}": t for k, t in of_labels.items()}
    numbers, of_evidence = split_state({} if evidence is None else evidence.state_dict())
    tensors |= {f"evidence.{k}": t for k, t in of_evidence.items()}
    index, of_index = encode_index(row_index)
    tensors |= {f"index.{k}": t for k, t in of_index.items()}
    defaults = inspect.signature(type(estimator)).parameters
    # Saved for `module=None`, where it is chosen by the data.
    input_dropout = getattr(net.module_, "input_dropout", None)
    is_own = estimator.module is None and input_dropout is not None
    document = {
        "format": FORMAT,
        "versions": {**versions(), "python": platform.python_version()},
        "estimator": type(estimator).__name__,
        "params": encode_params(estimator.get_params(deep=False), defaults),
        "classes": encode_labels(estimator.classes_),
        "n_features": getattr(estimator, "n_features_in_", None),
        "feature_names": None if names is None else names.tolist(),
        "row_shape": list(row_format.shape),
        "row_type": np.dtype(row_format.dtype).name,
        "lacks_channel": row_format.lacks_channel,
        "input_dropout": float(input_dropout) if is_own else None,
        "max_epochs": int(net.max_epochs),
        "lr": float(net.lr),
        "label_params": encodable(labels.get_params(deep=False)),
        "learned": learned,
        "evidence": numbers,
        "index": index,
        "history": as_json(net.history),
    }
    return document, tensors


def read_estimator(path, cls, new_labels, allow):
    """Return the estimator that `write_estimator` wrote; its rows' format, evidence and index.

    `new_labels` makes the method's label callback from its parameters.
    """
    document, tensors = read_file(path)
    return estimator_of(document, tensors, str(path), cls, new_labels, AllowList(allow))


def estimator_of(document: dict, tensors: dict, path: str, cls, new_labels, allowed: AllowList):
    """Return the estimator of which these are the contents; its rows' format, evidence, index."""
    name = document.get("estimator")
    if name != cls.__name__:
        raise ValueError(
            f"path must be a file of {cls.__name__}, got {path!r} of {name}; call {name}.load."
        )
    params = document.get("params")
    for param in params if isinstance(params, dict) else ():
        if str(param).partition("__")[0] in NOT_SAVED:
            raise ValueError(f"path must be a file that sets no {param}, got {path!r}.")
    try:
        estimator = cls(**{k: allowed.decode(v) for k, v in document["params"].items()})
        labels = new_labels(**{k: allowed.decode(v) for k, v in document["label_params"].items()})
        fitted = restore_estimator(estimator, document, tensors, labels)
    except Exception as error:  # a file may hold anything, also with a matching digest
        raise ValueError(f"{path!r} cannot be loaded: {type(error).__name__}: {error}") from error
    return estimator, fitted


def restore_estimator(estimator, document: dict, tensors: dict, labels) -> tuple:
    """Put the fitted state of a file into an estimator; return rows' format, evidence, index."""
    classes = estimator.classes_ = decode_labels(document["classes"])
    if classes.ndim != 1 or len(np.unique(classes)) != len(classes):
        raise ValueError("its classes are not labels")
    if document["n_features"] is not None:
        estimator.n_features_in_ = operator.index(document["n_features"])
    if document["feature_names"] is not None:
        estimator.feature_names_in_ = np.array(
            [str.__str__(name) for name in document["feature_names"]], dtype=object
        )
    row_format = RowFormat(
        tuple(document["row_shape"]),
        np.dtype(document["row_type"]).type,
        bool(document.get("lacks_channel")),  # missing in the first files
    )

    def part(prefix):
        return {k.removeprefix(prefix): t for k, t in tensors.items() if k.startswith(prefix)}

    # Layers that standardize are fitted to a row of zeros, and then get the saved constants.
    rows = np.zeros((1, *row_format.shape), dtype=np.float32)
    if row_format.dtype == np.float64:
        rows = DoubleRows(rows.astype(np.float64))
    module_params = module_parameters(estimator.skorch_params)
    if isinstance(estimator.module, str):
        module_params["weights"] = None  # no download: the weights are in the file
    if estimator.module is None and document.get("input_dropout") is not None:
        module_params["input_dropout"] = document["input_dropout"]
    if estimator.module is None and "module.0.columns" in tensors:
        module_params["columns"] = tensors["module.0.columns"]
    recipe = NetRecipe.of(
        estimator,
        rows,
        len(classes),
        resolve_device(estimator.device),
        lr=document["lr"],
        module_params=module_params,
    )
    recipe.module.load_state_dict(part("module."))
    recipe.lay_out(rows, check=False)
    criterion = SoftTargetLoss(tensors["criterion.targets"])
    for name, tensor in part("criterion.").items():
        criterion.register_buffer(name, tensor)
    labels.load_state_dict(join_state(document["learned"], part("labels.")))
    net = recipe.net(
        criterion,
        labels.with_companions(),
        max_epochs=document["max_epochs"],
        train_split=None,
        verbose=0,
    )
    net.initialize()
    net.module_.eval()
    net.history.extend(document["history"])
    estimator.net_ = net
    evidence = None
    if document["format"] > 1:  # before, other things were known of it
        evidence = join_state(document["evidence"], part("evidence."))
        if evidence and document["format"] == 2:
            later = {"plain_epochs": "warmup_epochs", "given_gain": "gain"}
            later["given_gain_error"] = "gain_error"
            evidence |= {name: evidence[former] for name, former in later.items()}
            evidence |= dict.fromkeys(("trusted_gain", "trusted_gain_error"), float("nan"))
    row_index = decode_index(document.get("index"), part("index."), len(criterion.given))
    return row_format, Evidence.from_state(evidence) if evidence else None, row_index
