"""Batches fetched whole: one indexing a batch instead of one a row."""

import numpy as np
import torch
from torch.utils.data import BatchSampler, DataLoader, Dataset, RandomSampler, SequentialSampler


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


def keep(batch):
    """Collate nothing: `RowDataset` returns whole batches."""
    return batch


class WholeBatches(BatchSampler):
    """Batches of row positions; a last batch of one row joins the one before.

    BatchNorm cannot train on a single row.
    """

    def __iter__(self):
        positions = np.fromiter(self.sampler, dtype=np.int64)
        stops = np.arange(1, len(self)) * self.batch_size
        if self.drop_last:
            positions = positions[: len(self) * self.batch_size]
        yield from np.split(positions, stops)

    def __len__(self):
        full, rest = divmod(len(self.sampler), self.batch_size)
        if self.drop_last:
            return full
        return full + (rest > 1 or (rest == 1 and full == 0))


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
        if sampler is None and shuffle:
            sampler = RandomSampler(dataset, generator=generator)
        elif sampler is None:
            sampler = SequentialSampler(dataset)
            generator = generator or torch.Generator()
        kwargs.setdefault("collate_fn", keep)
        super().__init__(
            dataset,
            batch_sampler=WholeBatches(sampler, batch_size, drop_last),
            generator=generator,
            **kwargs,
        )
