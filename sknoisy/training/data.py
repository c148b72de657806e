"""Batches fetched whole: one indexing operation a batch instead of one a row."""

import multiprocessing
import threading
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler, Subset

from sknoisy.rows import stored_type
from sknoisy.training.ranks import ALONE
from sknoisy.user_warnings import warn


def as_dense_tensor(rows, dtype) -> torch.Tensor:
    """Return rows as a dense tensor."""
    if hasattr(rows, "toarray"):
        rows = rows.toarray()
    return torch.from_numpy(rows.astype(dtype, copy=False))


def as_sparse_tensor(rows, dtype=np.float32) -> torch.Tensor:
    """Return rows of a CSR matrix as a coalesced COO tensor in float32, others as a dense one.

    The matrix, a batch of its own, may get its entries put in order.
    """
    if not hasattr(rows, "tocoo"):
        return as_dense_tensor(rows, dtype)
    rows.sum_duplicates()
    entries = rows.tocoo()
    return torch.sparse_coo_tensor(
        torch.from_numpy(np.stack([entries.row, entries.col]).astype(np.int64)),
        torch.from_numpy(entries.data.astype(np.float32, copy=False)),
        rows.shape,
        is_coalesced=True,
        check_invariants=False,
    )


class RowDataset(Dataset):
    """Pairs (row of X, row number) for skorch, fetched a batch at a time.

    Parameters
    ----------
    X : ndarray of shape (n_samples, ...), CSR matrix, `DatasetRows` or `StackedRows`
        Stays as it is.
    rows : ndarray of shape (n_samples,) or None
        Row numbers; None, as in prediction, gives zeros.
    to_tensor : callable, default=as_dense_tensor
        Makes a tensor of some rows of X when a batch is fetched: float32, or uint8 for images of
        that type, or float64 for `DoubleRows`.
    """

    def __init__(self, X, rows=None, to_tensor=as_dense_tensor):
        self.X = X
        self.dtype = stored_type(X)
        self.to_tensor = to_tensor
        self.rows = np.zeros(X.shape[0], dtype=np.int64) if rows is None else rows

    def __len__(self):
        return self.X.shape[0]

    def __getitem__(self, index):
        batch, rows = self.__getitems__([index])
        return batch[0], rows[0]

    def __getitems__(self, indices):
        # torch's fetcher calls this method, where there is one, with a whole batch.
        indices = np.asarray(indices)
        batch = self.to_tensor(self.X[indices], self.dtype)
        return [batch, torch.from_numpy(self.rows[indices])]


class Split(NamedTuple):
    """The rows of a fit: all of them, those to train on, and those held out.

    Attributes
    ----------
    data : RowDataset
        All rows.
    train : RowDataset or torch Subset
        Those to train on.
    held_out : torch Subset or None
        Those that `train_split` holds out; None also where they are of another Dataset.
    """

    data: RowDataset
    train: Dataset
    held_out: Dataset | None

    @classmethod
    def of(cls, train, held_out) -> "Split":
        """Return the split into two datasets, of which the second may be None or of other rows."""
        data = getattr(train, "dataset", train)
        return cls(data, train, held_out if getattr(held_out, "dataset", None) is data else None)

    @property
    def train_rows(self) -> torch.Tensor:
        """The numbers of the rows to train on."""
        return torch.as_tensor(getattr(self.train, "indices", range(len(self.data))))


def allowed_workers(num_workers: int) -> int:
    """Return how many DataLoader workers may start here: none inside a joblib worker.

    A process or thread that is itself a worker crashes or hangs when it forks more.
    """
    is_worker = (
        multiprocessing.parent_process() is not None
        or threading.current_thread() is not threading.main_thread()
    )
    if not (num_workers and is_worker):
        return num_workers
    warn(
        f"iterator_train__num_workers={num_workers} starts no processes inside a parallel worker:"
        " batches are read in the worker itself.",
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

    Attributes
    ----------
    ranks : Ranks or Alone
        The processes that share the batches, of each of which this one yields its part.
    """

    ranks = ALONE

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
        positions, first = self.positions(), 0
        for n_rows in self.sizes():
            part = self.ranks.part(n_rows)
            yield positions[first + part.start : first + part.stop]
            first += n_rows

    def sizes(self) -> list[int]:
        """Return how many rows each whole batch has."""
        before_last = [self.batch_size] * (self.n_batches - 1)
        return [*before_last, self.end - sum(before_last)]

    def __len__(self):
        return self.n_batches


class BatchLoader(DataLoader):
    """DataLoader whose sampler yields whole batches, see `WholeBatches`.

    Takes DataLoader's arguments. Without a `generator`, a loader that does not
    shuffle uses one of its own, so that prediction leaves torch's generator unchanged.
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
        self.is_free = sampler is None and shuffle and generator is None
        if sampler is not None:
            positions = partial(_drawn, sampler, len(dataset))
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

    def __iter__(self):
        # Without processes and pinned memory torch's iterator adds nothing but time.
        dataset, indices = self.dataset, None
        if type(dataset) is Subset:  # which looks its rows up one by one
            dataset, indices = dataset.dataset, np.asarray(dataset.indices)
        if self.num_workers or self.pin_memory or not hasattr(dataset, "__getitems__"):
            return super().__iter__()
        torch.empty((), dtype=torch.int64).random_(generator=self.generator)  # as torch's does
        batches = self.batch_sampler if indices is None else map(indices.take, self.batch_sampler)
        return (self.collate_fn(dataset.__getitems__(rows)) for rows in batches)

    def draw_by(self, rng: np.random.Generator) -> None:
        """Shuffle by a generator, unless the user gave another, or a sampler."""
        if self.is_free:
            self.batch_sampler.positions = partial(rng.permutation, len(self.dataset))


def _drawn(sampler, n_rows):
    drawn = np.fromiter(sampler, dtype=np.int64)
    if len(drawn) and not 0 <= drawn.min() <= drawn.max() < n_rows:
        raise ValueError(
            f"iterator_train__sampler must draw from the rows to train on, of which there are"
            f" {n_rows}, got row {drawn.max()}: folds and train_split leave fewer than it was made"
            " for. To weigh classes pass class_weight, to weigh rows sample_weight."
        )
    return drawn


def _shuffled(n_samples, generator):
    return torch.randperm(n_samples, generator=generator).numpy()
