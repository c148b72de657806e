"""What of a fitted estimator goes into a file, and back."""

import inspect
import json
import operator
import platform

import numpy as np
import torch
from torch import nn

from sknoisy.networks.build import build_module
from sknoisy.networks.layout import use_channels_last
from sknoisy.storage.file_format import FORMAT, Trusted, encode, read_file, write_file
from sknoisy.storage.fingerprint import versions
from sknoisy.training.features import plain
from sknoisy.training.net import resolve_device
from sknoisy.training.targets import SoftTargetLoss
from sknoisy.user_warnings import warn

NEEDED = ("module", "device", "amp")  # for predictions; others can be left out
# Nothing that starts processes, compilers or writes files comes out of a file.
NOT_SAVED = ("callbacks", "compile", "iterator_train", "iterator_valid", "checkpoint_dir")
LEARNED = {
    "best_epoch_",
    "n_meta_",
    "hypergradient_",
    "n_neighbors_",
    "max_noise_rate_",
    "cross_entropy_share_",
}


def encode_labels(classes: np.ndarray) -> dict:
    """Return the labels as JSON with their type; TypeError for what JSON has no form for."""
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


def plain_history(history) -> list:
    """Return skorch's history with Python's own numbers."""
    return json.loads(json.dumps(list(history), default=lambda value: value.item()))


class Saving:
    """The part of an estimator that writes and reads files."""

    def save(self, path):
        """Write the fitted estimator to a file that holds no code.

        Parameters
        ----------
        path : str or Path
            The file, in safetensors' format; replaced once the new one is whole. It holds what
            predictions, `soft_labels_` and the other attributes need. An own `module` must be a
            class or a function that can be imported: the file holds its name, not its code.
            Parameters without a form in JSON, such as callbacks, are left out with a warning.
        """
        net = self._fitted_net()
        labels = dict(net.callbacks_)["labels"]
        tensors = {f"module.{k}": t for k, t in plain(net.module_).state_dict().items()}
        tensors |= {f"criterion.{k}": t for k, t in net.criterion_.named_buffers()}
        scalars = {}
        for name, value in vars(labels).items():
            value = value.item() if isinstance(value, np.generic) else value
            if isinstance(value, nn.Module):
                tensors |= {f"labels.{name}.{k}": t for k, t in value.state_dict().items()}
            elif value is None or isinstance(value, bool | int | float | str):
                scalars[name] = value
        names = getattr(self, "feature_names_in_", None)
        document = {
            "format": FORMAT,
            "versions": {**versions(), "python": platform.python_version()},
            "estimator": type(self).__name__,
            "params": self._encoded_params(),
            "classes": encode_labels(self.classes_),
            "n_features": getattr(self, "n_features_in_", None),
            "feature_names": None if names is None else names.tolist(),
            "row_shape": list(self._row_shape),
            "row_type": np.dtype(self._row_type).name,
            "n_labels": self._n_labels,
            "input_dropout": self._input_dropout(),
            "max_epochs": int(net.max_epochs),
            "labels": scalars,
            "history": plain_history(net.history),
        }
        write_file(path, document, tensors)

    def _input_dropout(self):
        """Return the share that a network of `module=None` drops, which it chose by the table."""
        share = getattr(self.module_, "input_dropout", None) if self.module is None else None
        return None if share is None else float(share)

    def _encoded_params(self):
        encoded, left_out = {}, []
        defaults = inspect.signature(type(self)).parameters
        for name, value in self.get_params(deep=False).items():
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
                " default; predictions do not need them.",
            )
        return encoded

    @classmethod
    def load(cls, path, *, trusted=()):
        """Return the fitted estimator that `save` wrote.

        Parameters
        ----------
        path : str or Path
            The file. A damaged one, or one of another estimator, raises ValueError.
        trusted : class, function, str, iterable of these, or dict, default=()
            What the file may name beside torch's own layers and optimizers, such as the class
            of your module: itself, or its import path; ``{path: MyNetwork}`` where the path in
            the file is another, as of a class that was defined in a notebook. The file imports
            nothing by itself.
        """
        document, tensors = read_file(path)
        name = document.get("estimator")
        if name != cls.__name__:
            raise ValueError(
                f"path must be a file of {cls.__name__}, got {str(path)!r} of {name}; call"
                f" {name}.load."
            )
        listed = Trusted(trusted)
        params = document.get("params")
        for param in params if isinstance(params, dict) else ():
            if str(param).partition("__")[0] in NOT_SAVED:
                raise ValueError(f"path must be a file that sets no {param}, got {str(path)!r}.")
        try:
            params = {name: listed.decode(value) for name, value in document["params"].items()}
            estimator = cls(**params)
            estimator._revive(document, tensors)
        except Exception as error:  # a file may hold anything, in a right digest as well
            raise ValueError(
                f"{str(path)!r} cannot be loaded: {type(error).__name__}: {error}"
            ) from error
        return estimator

    def _revive(self, document, tensors):
        """Put the fitted state in place."""
        self.classes_ = decode_labels(document["classes"])
        if self.classes_.ndim != 1 or len(np.unique(self.classes_)) != len(self.classes_):
            raise ValueError("its classes are not labels")
        if document["n_features"] is not None:
            self.n_features_in_ = operator.index(document["n_features"])
        if document["feature_names"] is not None:
            self.feature_names_in_ = np.array(
                [str.__str__(name) for name in document["feature_names"]], dtype=object
            )
        self._row_shape = tuple(document["row_shape"])
        self._row_type = np.dtype(document["row_type"]).type
        self._n_labels = document["n_labels"]

        def part(prefix):
            return {k.removeprefix(prefix): t for k, t in tensors.items() if k.startswith(prefix)}

        # Layers that standardize are fitted to a row of zeros, and then get what was saved.
        rows = np.zeros((1, *self._row_shape), dtype=np.float32)
        module_params = self._module_params()
        if isinstance(self.module, str):
            module_params["weights"] = None  # no download: the weights are in the file
        if self.module is None and document.get("input_dropout") is not None:
            module_params["input_dropout"] = document["input_dropout"]
        module = build_module(self.module, module_params, rows, len(self.classes_))
        module.load_state_dict(part("module."))
        device = resolve_device(self.device)
        use_channels_last(module.to(device), torch.from_numpy(rows).to(device))
        criterion = SoftTargetLoss(tensors["criterion.targets"])
        for name, tensor in part("criterion.").items():
            criterion.register_buffer(name, tensor)
        labels = self._new_label_callback()
        known = vars(labels).keys() | LEARNED
        for name in document["labels"].keys() & known:
            setattr(labels, name, document["labels"][name])
        label_net = part("labels.label_net_.")
        if label_net:
            weight = label_net["weight"]
            labels.label_net_ = nn.Linear(*weight.shape[::-1], dtype=weight.dtype)
            labels.label_net_.load_state_dict(label_net)
        net = self._inner_net(
            rows,
            module,
            criterion,
            max_epochs=document["max_epochs"],
            callbacks=[("labels", labels)],
            train_split=None,
            verbose=0,
            **{k: v for k, v in self._net_params(rows).items() if not k.startswith("callbacks__")},
        )
        net.initialize()
        net.history.extend(document["history"])
        self.net_ = net
