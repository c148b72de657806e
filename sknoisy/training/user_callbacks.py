"""Callbacks of the user: what they are called, and the labels that they see.

The nets know rows by their numbers, which stand in the place of y. A callback of the user's sees
what it would see in skorch's NeuralNetClassifier: the class numbers of the given labels.
"""

import inspect
from collections import Counter
from contextlib import contextmanager
from copy import deepcopy

import torch
from skorch.dataset import Dataset
from torch.utils.data import Subset

from sknoisy.training.data import RowDataset
from sknoisy.training.held_out import given_labels

OWN = "sknoisy_"  # names of the library's callbacks begin so
# skorch's own in each net, which read no labels.
DEFAULTS = ("epoch_timer", "train_loss", "valid_loss", "valid_acc", "print_log")

_in_use: list = []


def names_of(callbacks) -> list[str]:
    """Return the names that skorch gives to a list of callbacks."""
    pairs = [item if isinstance(item, tuple | list) else (None, item) for item in callbacks]
    names = [
        name or (cb.__name__ if isinstance(cb, type) else type(cb).__name__) for name, cb in pairs
    ]
    counts, seen = Counter(names), Counter()
    for k, (own_name, _) in enumerate(pairs):
        name = names[k]
        if own_name is None and counts[name] > 1:
            seen[name] += 1
            names[k] = f"{name}_{seen[name]}"
    return names


def objects_of(callbacks) -> list:
    """Return the callbacks of a list without their names: objects or classes."""
    return [item[1] if isinstance(item, tuple | list) else item for item in callbacks]


@contextmanager
def borrowed(callbacks):
    """Yield the user's callbacks: the objects themselves, or copies of those that a fit uses.

    Which happens where a callback fits another estimator.
    """
    callbacks = list(callbacks or [])
    taken = {id(cb) for cb in _in_use}
    if any(id(cb) in taken for cb in objects_of(callbacks)):
        callbacks = deepcopy(callbacks)
    mine = objects_of(callbacks)
    _in_use.extend(mine)
    try:
        yield callbacks
    finally:
        del _in_use[len(_in_use) - len(mine) :]


def monitored(callback) -> str | None:
    """Return the entry of the history that a callback monitors, if any."""
    if isinstance(callback, type):
        parameter = inspect.signature(callback).parameters.get("monitor")
        name = None if parameter is None else parameter.default
    else:
        name = getattr(callback, "monitor", None)
    return name if isinstance(name, str) else None


def labels_as_given(net, arguments: dict) -> dict:
    """Return the arguments of a hook with class numbers in the place of row numbers."""
    criterion, seen = net.criterion_, dict(arguments)
    if "batch" in seen:
        X, labels = batch_as_given(criterion, *seen["batch"])
        if "y_pred" in seen and (labels < 0).any():  # those without a given label
            kept = labels >= 0
            X, labels = X[kept.to(X.device)], labels[kept]
            seen["y_pred"] = seen["y_pred"][kept.to(seen["y_pred"].device)]
        seen["batch"] = [X, labels]
    elif seen.get("y") is not None:
        seen["y"] = given_labels(criterion, torch.as_tensor(seen["y"])).cpu().numpy()
    for part in ("dataset_train", "dataset_valid"):
        if part in seen:
            seen[part] = dataset_as_given(criterion, seen[part])
    return seen


def batch_as_given(criterion, X, rows) -> list:
    """Return a batch with class numbers; a mixture has that of the row at its place."""
    rows = rows[0][: len(X)] if isinstance(rows, list) else rows
    return [X, given_labels(criterion, rows)]


class GivenRows(Dataset):
    """skorch's Dataset of rows that are read in batches."""

    def __getitem__(self, index):
        return RowDataset(self.X, self.y)[index]


def dataset_as_given(criterion, dataset):
    """Return a set of rows as a skorch Dataset with class numbers, without unlabeled rows."""
    if dataset is None:
        return None
    indices = None
    if isinstance(dataset, Subset):
        dataset, indices = dataset.dataset, torch.as_tensor(dataset.indices)
    labels = given_labels(criterion, torch.as_tensor(dataset.rows)).cpu()
    if (labels < 0).any():
        indices = torch.arange(len(labels)) if indices is None else indices
        indices = indices[labels[indices] >= 0]
    whole = GivenRows(dataset.X, labels.numpy(), length=len(labels))
    return whole if indices is None else Subset(whole, indices.tolist())


def call_hook(net, callback, name: str, hook: str, arguments: dict) -> None:
    """Call a hook of a user's callback, which sees class numbers and may replace inputs."""
    seen = labels_as_given(net, arguments)
    batch = seen.get("batch")
    labels = None if batch is None else batch[1]
    try:
        getattr(callback, hook)(net, **seen)
    except KeyError as error:
        if "was not found in history" not in str(error):
            raise
        keys = [key for key in net.history[-1] if not key.endswith("_best") and key != "batches"]
        raise ValueError(
            f"callbacks must monitor what the history holds, got {name} with"
            f" {monitored(callback)!r}; it holds {', '.join(keys)}."
        ) from error
    if hook == "on_batch_begin":
        if batch[1] is not labels:
            raise ValueError(
                f"callbacks must leave the labels of a batch as they are, which the fit corrects;"
                f" {name} replaced them. Change y instead."
            )
        if batch[0] is not arguments["batch"][0]:
            arguments["batch"][0] = batch[0]
