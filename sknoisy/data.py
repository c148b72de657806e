"""Batches fetched whole: one indexing a batch instead of one a row."""

from functools import partial

import numpy as np
import torch
from scipy import sparse
from torch.utils.data import DataLoader, Dataset, Sampler


class RowDataset(Dataset):
    """Pairs (row of X, row number) for skorch, fetched a batch at a time.

    Parameters
    ----------
    X : ndarray of shape (n_samples, ...) or CSR matrix
        Stays as it is; a CSR batch is made dense when it is fetched.
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
        return [torch.from_numpy(batch), torch.from_numpy(self.rows[indices])]


def stack_rows(first, second):
    """Return the rows of two arrays, or of two CSR matrices, one below the other."""
    if hasattr(first, "toarray"):
        return sparse.vstack([first, sparse.csr_matrix(second)], format="csr")
    return np.concatenate([first, second.toarray() if hasattr(second, "toarray") else second])


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
