"""Batches fetched whole: one indexing a batch instead of one a row."""

import multiprocessing
import threading
import warnings
from functools import partial

import numpy as np
import torch
from scipy import sparse
from skorch.helper import SliceDataset
from torch.utils.data import DataLoader, Dataset, Sampler, TensorDataset


class RowDataset(Dataset):
    """Pairs (row of X, row number) for skorch, fetched a batch at a time.

    Parameters
    ----------
    X : ndarray of shape (n_samples, ...), CSR matrix, `DatasetRows` or `StackedRows`
        Stays as it is; a batch is made dense when it is fetched, and float32 unless it holds
        uint8 images.
    rows : ndarray of shape (n_samples,) or None
        Row numbers; None, as in prediction, gives zeros.
    """

    def __init__(self, X, rows=None):
        self.X = X
        self.rows = np.zeros(X.shape[0], dtype=np.int64) if rows is None else rows

    def __len__(self):
        return self.X.shape[0]

    def __getitem__(self, index):
        batch, rows = self.__getitems__([index])
        return batch[0], rows[0]

    def __getitems__(self, indices):
        # torch's fetcher looks for this method and hands over a whole batch.
        indices = np.asarray(indices)
        batch = self.X[indices]
        if hasattr(batch, "toarray"):
            batch = batch.toarray()
        batch = batch.astype(stored_type(batch), copy=False)
        return [torch.from_numpy(batch), torch.from_numpy(self.rows[indices])]


def stored_type(X):
    """Return the type that batches of X have in memory: images may stay uint8."""
    return np.uint8 if X.dtype == np.uint8 and X.ndim > 2 else np.float32


def is_dataset(X) -> bool:
    """Tell whether X is a torch Dataset, a slice of one, or a list of its items."""
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

    def labels(self, num_workers=0) -> np.ndarray:
        """Return the labels of all pairs, read once."""
        if not self.has_labels:
            raise ValueError(
                "y must be given for a Dataset without labels; pass y, or a Dataset of pairs"
                " (tensor, label)."
            )
        known = _known_labels(self.dataset)
        if known is not None:
            return known
        loader = DataLoader(
            _Labels(self.dataset),
            batch_size=256,
            num_workers=allowed_workers(num_workers),
            collate_fn=keep,
            generator=torch.Generator(),  # leaves torch's own alone
        )
        found = [_as_scalar(label) for batch in loader for label in batch]
        is_mixed = len({isinstance(label, str) for label in found}) > 1
        return np.asarray(found, dtype=object if is_mixed else None)


class _Labels(Dataset):
    """The labels of a Dataset of pairs."""

    def __init__(self, dataset):
        self.dataset = dataset

    def __len__(self):
        return len(self.dataset)

    def __getitem__(self, index):
        return self.dataset[index][1]


def as_array(tensor: torch.Tensor) -> np.ndarray:
    """Return the numbers of a tensor; numpy has no bfloat16."""
    tensor = tensor.float() if tensor.dtype == torch.bfloat16 else tensor
    return tensor.numpy(force=True)


def _as_scalar(label):
    if np.ndim(label):
        raise ValueError(f"y must hold one label a row, got {label!r}; pass class numbers.")
    return label.item() if isinstance(label, torch.Tensor | np.ndarray | np.generic) else label


def _known_labels(dataset):
    """Return the labels of a Dataset whose class is known to hold them apart, or None."""
    if type(dataset) is TensorDataset:
        return dataset.tensors[1].numpy(force=True)
    is_torchvision = type(dataset).__module__.startswith("torchvision.datasets.")
    if is_torchvision and getattr(dataset, "target_transform", 0) is None:
        targets = getattr(dataset, "targets", None)
        return None if targets is None or np.ndim(targets) != 1 else np.asarray(targets)
    return None


class StackedRows:
    """Array-like view of two sets of rows, one below the other, that copies neither."""

    def __init__(self, first, second):
        self.parts = first, second
        self.dtype = first.dtype
        self.shape = (first.shape[0] + second.shape[0], *first.shape[1:])
        self.ndim = len(self.shape)

    def __getitem__(self, index):
        index = np.arange(self.shape[0])[index]
        first, second = self.parts
        is_first = index < first.shape[0]
        rows = np.empty((len(index), *self.shape[1:]), dtype=self.dtype)
        if is_first.any():
            rows[is_first] = first[index[is_first]]
        if not is_first.all():
            rows[~is_first] = second[index[~is_first] - first.shape[0]]
        return rows


def stack_rows(first, second):
    """Return the rows of two arrays, or of two CSR matrices, one below the other."""
    if hasattr(first, "toarray"):
        return sparse.vstack([first, sparse.csr_matrix(second)], format="csr")
    return StackedRows(first, second.toarray() if hasattr(second, "toarray") else second)


def allowed_workers(num_workers: int) -> int:
    """Return how many DataLoader workers may start here: none inside a worker of joblib's.

    A process or thread that is itself a worker crashes or hangs when it forks more.
    """
    is_worker = (
        multiprocessing.parent_process() is not None
        or threading.current_thread() is not threading.main_thread()
    )
    if not (num_workers and is_worker):
        return num_workers
    warnings.warn(
        f"iterator_train__num_workers={num_workers} starts no processes inside a parallel worker:"
        " batches are read in the worker itself.",
        UserWarning,
        stacklevel=2,
    )
    return 0


def keep(batch):
    """Collate nothing: `RowDataset` returns whole batches."""
    return batch


class WholeBatches(Sampler):
    """Batches of row positions; a last batch of one row joins the one before.

    BatchNorm cannot train on a single row.

    Parameters
    ----------
    positions : callable
        Returns the positions of one epoch, ndarray of shape (n_samples,).
    n_samples, batch_size : int
        Rows in an epoch and in a batch.
    drop_last : bool
        Whether to drop a last batch that is not full.
    """

    def __init__(self, positions, n_samples, batch_size, drop_last):
        self.positions = positions
        self.batch_size = batch_size
        full, rest = divmod(n_samples, batch_size)
        joined = drop_last or (rest == 1 and full > 0)
        self.n_batches = full + (rest > 0 and not joined)
        self.end = full * batch_size if drop_last else n_samples
        if self.n_batches == 0:
            raise ValueError(
                f"batch_size must be at most the number of rows when drop_last is True, got"
                f" batch_size={batch_size} and {n_samples} rows."
            )

    def __iter__(self):
        positions = self.positions()
        for batch in range(self.n_batches):
            is_last = batch == self.n_batches - 1
            stop = self.end if is_last else (batch + 1) * self.batch_size
            yield positions[batch * self.batch_size : stop]

    def __len__(self):
        return self.n_batches


class BatchLoader(DataLoader):
    """DataLoader whose sampler yields whole batches, see `WholeBatches`.

    Takes DataLoader's arguments. Without a `generator`, a loader that does not
    shuffle uses one of its own, so that prediction leaves torch's generator alone.
    Inside a parallel worker it starts no workers, see `allowed_workers`.
    """

    def __init__(
        self,
        dataset,
        batch_size=1,
        shuffle=False,
        sampler=None,
        drop_last=False,
        generator=None,
        **kwargs,
    ):
        n_samples = len(dataset) if sampler is None else len(sampler)
        if sampler is not None:
            positions = partial(_drawn, sampler)
        elif shuffle:
            positions = partial(_shuffled, n_samples, generator)
        else:
            positions = partial(np.arange, n_samples)
            generator = generator or torch.Generator()
        kwargs.setdefault("collate_fn", keep)
        if allowed_workers(kwargs.get("num_workers", 0)) == 0:
            of_workers = ("num_workers", "persistent_workers", "prefetch_factor", "timeout")
            for name in (*of_workers, "multiprocessing_context"):
                kwargs.pop(name, None)
        super().__init__(
            dataset,
            batch_sampler=WholeBatches(positions, n_samples, batch_size, drop_last),
            generator=generator,
            **kwargs,
        )


def _drawn(sampler):
    return np.fromiter(sampler, dtype=np.int64)


def _shuffled(n_samples, generator):
    return torch.randperm(n_samples, generator=generator).numpy()


def count_dimensions(X):
    """Return how many dimensions X has, without making an array of it."""
    nested = 0
    while isinstance(X, list | tuple) and X:
        X, nested = X[0], nested + 1
    return nested + getattr(X, "ndim", 0)


def plain_labels(y):
    """Return labels of a nullable pandas type, none of them missing, as numpy's own type.

    And numpy's strings of any length as those of one length, which scikit-learn knows.
    """
    if isinstance(y, np.ndarray) and y.dtype.kind == "T":
        return y.astype(str)
    plain = getattr(getattr(y, "dtype", None), "numpy_dtype", None)
    if plain is None or not hasattr(y, "to_numpy") or y.isna().any():
        return y
    return y.to_numpy(dtype=plain)
