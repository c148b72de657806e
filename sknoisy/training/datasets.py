"""torch Datasets as arrays whose rows are read when they are indexed."""

import numpy as np
import torch
from skorch.helper import SliceDataset
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset

from sknoisy.labels import name_labels, read_labels
from sknoisy.training.data import allowed_workers, keep


def is_dataset(X) -> bool:
    """Return whether X is a torch Dataset, a slice of one, or a list of its items."""
    if not (isinstance(X, list) and X):  # scikit-learn's splitting makes a list of a Dataset
        return isinstance(X, Dataset | SliceDataset)
    item, is_pair = X[0], False
    if isinstance(item, tuple | list) and 1 <= len(item) <= 2:
        is_pair = isinstance(item[0], torch.Tensor | np.ndarray) and np.ndim(item[-1]) == 0
        item = item[0]
    is_row = isinstance(item, torch.Tensor | np.ndarray)
    return is_row and item.ndim > (0 if is_pair else 1)


class DatasetRows:
    """Array-like view of the inputs of a torch Dataset: rows are fetched when they are indexed.

    Parameters
    ----------
    dataset : torch Dataset, skorch SliceDataset or list
        Of tensors or arrays of one shape, or of pairs (tensor, label).
    add_channel : bool, default=False
        Whether images (height, width) get a channel.
    """

    def __init__(self, dataset, add_channel=False):
        self.dataset = dataset
        if not (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")):
            raise TypeError(
                f"X must be a Dataset with a length and rows by number, got"
                f" {type(dataset).__name__}; read an iterable one into arrays first."
            )
        if len(dataset) == 0:
            raise ValueError("X must hold at least one row, got an empty Dataset.")
        item = dataset[0]
        self.is_tuple = isinstance(item, tuple | list)
        self.has_labels = self.is_tuple and len(item) == 2
        self.add_channel = False
        row = self._row(item)
        self.add_channel = add_channel and row.ndim == 2
        self.dtype = row.dtype
        self.shape = (len(dataset), *self._row(item).shape)
        self.ndim = len(self.shape)

    def _row(self, item):
        row = item[0] if self.is_tuple else item
        if not isinstance(row, torch.Tensor | np.ndarray):
            raise TypeError(
                f"X must be a Dataset of tensors or arrays, or of pairs (tensor, label), got"
                f" {type(row).__name__} in the place of a tensor; for images, pass the Dataset"
                " transform=torchvision.transforms.v2.PILToTensor()."
            )
        if isinstance(row, torch.Tensor):
            row = as_array(row)
        return row[None] if self.add_channel else row

    def _items(self, numbers):
        if hasattr(self.dataset, "__getitems__"):
            return self.dataset.__getitems__(numbers)
        return [self.dataset[number] for number in numbers]

    def __len__(self):
        return self.shape[0]

    def __getitem__(self, index):
        numbers = np.arange(len(self))[index].tolist()
        rows = [self._row(item) for item in self._items(numbers)]
        if any(row.shape != self.shape[1:] for row in rows):
            shapes = sorted({row.shape for row in rows})
            raise ValueError(f"X must hold rows of one shape, got {shapes}; resize them first.")
        if any((row.dtype == np.uint8) != (self.dtype == np.uint8) for row in rows):
            raise ValueError("X must hold rows of one type, got uint8 and others; convert them.")
        return np.stack(rows)

    def labels(self, num_workers=0, classes=None) -> np.ndarray:
        """Return the labels of all pairs, read once, as names where the Dataset has `class_names`.

        `classes` are those of a fit: where they are numbers, class numbers stay so.
        """
        labels = self._read_labels(num_workers)
        is_named = classes is None or isinstance(classes[0], str)
        return name_labels(labels, class_names(self.dataset)) if is_named else labels

    def _read_labels(self, num_workers):
        if not self.has_labels:
            raise ValueError(
                "y must be given for a Dataset without labels; pass y, or a Dataset of pairs"
                " (tensor, label)."
            )
        known = _known_labels(self.dataset)
        if known is not None:
            return read_labels(known)
        loader = DataLoader(
            _Labels(self.dataset),
            batch_size=256,
            num_workers=allowed_workers(num_workers),
            collate_fn=keep,
            generator=torch.Generator(),  # leaves torch's global one unchanged
        )
        return read_labels([_as_scalar(label) for batch in loader for label in batch])


class _Labels(Dataset):
    """The labels of a Dataset of pairs."""

    def __init__(self, dataset):
        self.dataset = dataset

    def __len__(self):
        return len(self.dataset)

    def __getitem__(self, index):
        return self.dataset[index][1]


def read_true_labels(X, y, classes, num_workers=0):
    """Return the labels to score a fit on `classes` by: y, or where it is None a Dataset's own."""
    if y is None and is_dataset(X):
        return DatasetRows(X).labels(num_workers, classes)
    return None if y is None else read_labels(y)


def class_names(dataset) -> list | None:
    """Return the names of a Dataset's class numbers, or None where it tells none.

    They are its `classes`, or those of the Dataset that it is a part of: different texts. Under a
    `target_transform` its numbers are others.
    """
    while isinstance(dataset, Subset):
        dataset = dataset.dataset
    names = getattr(dataset, "classes", None)
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        return None
    is_changed = getattr(dataset, "target_transform", None) is not None
    return None if is_changed or len(set(names)) < len(names) else list(names)


def as_array(tensor: torch.Tensor) -> np.ndarray:
    """Return the numbers of a tensor; numpy has no bfloat16."""
    tensor = tensor.float() if tensor.dtype == torch.bfloat16 else tensor
    return tensor.numpy(force=True)


def _as_scalar(label):
    if np.ndim(label):
        raise ValueError(f"y must hold one label a row, got {label!r}; pass class numbers.")
    return label.item() if isinstance(label, torch.Tensor | np.ndarray | np.generic) else label


def _known_labels(dataset):
    """Return the labels of a Dataset whose class is known to store them separately, or None."""
    if type(dataset) is TensorDataset:
        return dataset.tensors[1].numpy(force=True)
    is_torchvision = type(dataset).__module__.startswith("torchvision.datasets.")
    if is_torchvision and getattr(dataset, "target_transform", 0) is None:
        targets = getattr(dataset, "targets", None)
        return None if targets is None or np.ndim(targets) != 1 else np.asarray(targets)
    return None
