"""The callback that writes and restores a fit's whole state, after each epoch."""

import inspect
from collections import deque
from functools import partial

import numpy as np
import torch
from skorch.callbacks import Callback, PrintLog, ProgressBar
from torch import Tensor

from sknoisy.training.data import Split
from sknoisy.training.label_callback import LabelCallback


def as_state(value, name: str):
    """Return a callback's attribute as tensors, numbers, text and containers of them."""
    if isinstance(value, np.generic):  # before float: numpy's float64 is one
        return value.item()
    if value is None or isinstance(value, bool | int | float | str | Tensor):
        return value
    if isinstance(value, np.ndarray) and value.dtype != object:
        return {"$array": torch.from_numpy(value.copy())}
    if isinstance(value, dict):
        return {k: as_state(v, name) for k, v in value.items()}
    if isinstance(value, list | tuple | set):
        return type(value)([as_state(v, name) for v in value])
    if isinstance(value, deque):
        return {"$deque": [as_state(v, name) for v in value], "maxlen": value.maxlen}
    if hasattr(value, "state_dict") and hasattr(value, "load_state_dict"):
        return {"$state_dict": as_state(dict(value.state_dict()), name)}
    raise TypeError(
        f"callbacks must have a state that a checkpoint can hold, got {name} of type"
        f" {type(value).__name__}; leave the callback out, or pass checkpoint_dir=None."
    )


def restored(state, current):
    """Return the attribute that `as_state` encoded; `current` is the present one."""
    if isinstance(state, dict):
        if "$array" in state:
            return state["$array"].numpy()
        if "$deque" in state:
            return deque(state["$deque"], maxlen=state["maxlen"])
        if "$state_dict" in state:
            current.load_state_dict(restored(state["$state_dict"], None))
            return current
        return type(state)((k, restored(v, None)) for k, v in state.items())
    if isinstance(state, list | tuple | set):
        return type(state)(restored(v, None) for v in state)
    return state


def attributes_of(callback) -> dict:
    """Return a callback's fitted attributes: by skorch's convention, names end in an underscore."""
    if isinstance(callback, PrintLog | ProgressBar):  # they only print
        return {}
    return {
        name: as_state(value, f"{type(callback).__name__}.{name}")
        for name, value in vars(callback).items()
        if name.endswith("_") and not (isinstance(value, type) or inspect.isroutine(value))
    }


def generators(device) -> dict:
    """Return the states of this process's generators."""
    name, keys, *numbers = np.random.get_state()  # noqa: NPY002 - the one that fit seeds
    is_cuda = torch.device(device).type == "cuda"
    return {
        "torch": torch.get_rng_state(),
        "numpy": [name, torch.from_numpy(keys.astype(np.int64)), *numbers],
        "cuda": torch.cuda.get_rng_state(device) if is_cuda else None,
    }


def restore_generators(state: dict, device) -> None:
    """Put this process's generators where they were."""
    name, keys, *numbers = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *numbers))  # noqa: NPY002
    torch.set_rng_state(state["torch"])
    if state["cuda"] is not None:
        torch.cuda.set_rng_state(state["cuda"], device)


class Checkpoint(Callback):
    """Write the state of the net, its callbacks and the generators after each epoch.

    Parameters
    ----------
    folder : CheckpointFolder or None
        Where to write; None writes nothing, as in the net of a finished fit.
    fingerprint : dict
        What must be the same in a resumed fit.
    seed : int
        Seed of the fit.
    found_warmup : int or None
        What the search for the warm-up found.
    evidence : Evidence or None
        What was gathered before the fit.
    """

    def __init__(self, folder, fingerprint, seed, found_warmup, evidence):
        self.folder = folder
        self.fingerprint = fingerprint
        self.seed = seed
        self.found_warmup = found_warmup
        self.evidence = evidence

    @property
    def epochs_done(self) -> int:
        """Number of epochs that need not be trained again."""
        return 0 if self.folder is None else self.folder.epochs_done

    def state_of(self, net) -> dict:
        """Return everything that the next epoch depends on."""
        state = {
            "fingerprint": self.fingerprint,
            "seed": self.seed,
            "found_warmup": self.found_warmup,
            "evidence": self.evidence and self.evidence.state_dict(),
            "history": list(net.history),
            "module": net.module_.state_dict(),
            "criterion": dict(net.criterion_.named_buffers()),
            "optimizer": net.optimizer_.state_dict(),
            "scaler": None if net.scaler is None else net.scaler.state_dict(),
            "callbacks": {},
            "order": net.rng_.bit_generator.state,
            "generators": net.ranks.all(generators(net.device)),
        }
        for name, callback in net.callbacks_:
            if isinstance(callback, LabelCallback):
                state["callbacks"][name] = callback.state_dict()
            elif callback is not self:
                state["callbacks"][name] = attributes_of(callback)
        return as_state(state, "the state of the fit")

    def restore(self, net, dataset_train, dataset_valid):
        """Restore the state into a net that is about to train."""
        if self.folder is None or self.folder.state is None:
            return
        state, self.folder.state = self.folder.state, None
        net.history.clear()
        net.history.extend(state["history"])
        net.module_.load_state_dict(state["module"])
        for name, tensor in state["criterion"].items():
            current = getattr(net.criterion_, name)
            if name == "targets" and current.shape == tensor.shape:  # processes may share it
                net.ranks.once(current, partial(current.copy_, tensor))
            else:
                setattr(net.criterion_, name, tensor.to(net.device))
        net.optimizer_.load_state_dict(state["optimizer"])
        if net.scaler is not None:
            net.scaler.load_state_dict(state["scaler"])
        for name, callback in net.callbacks_:
            if isinstance(callback, LabelCallback):
                split = Split.of(dataset_train, dataset_valid)
                callback.load_state_dict(restored(state["callbacks"][name], None), net, split)
            elif callback is not self:  # scikit-learn's may be new
                for attribute, value in state["callbacks"].get(name, {}).items():
                    current = getattr(callback, attribute, None)
                    setattr(callback, attribute, restored(value, current))
        net.rng_.bit_generator.state = state["order"]
        restore_generators(state["generators"][net.ranks.rank], net.device)

    def on_train_begin(self, net, **kwargs):
        """Raise for callbacks that no checkpoint can hold, before the first epoch."""
        if self.folder is not None:
            self.state_of(net)

    def on_epoch_end(self, net, **kwargs):
        """Write the state."""
        if self.folder is not None:
            self.folder.write(self.state_of(net))

    def on_train_end(self, net, **kwargs):
        """Write no more: further training of the net is another fit."""
        self.folder = self.evidence = None
