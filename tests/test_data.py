import numpy as np
import pytest
import torch
from scipy import sparse
from torch.utils.data import Subset, WeightedRandomSampler

from sknoisy import ALRClassifier
from sknoisy.training.data import BatchLoader, RowDataset


def rows_of(loader):
    return [rows.tolist() for _, rows in loader]


def dataset(n):
    return RowDataset(np.arange(2 * n, dtype=np.float32).reshape(n, 2), np.arange(n))


@pytest.mark.parametrize(
    ("n", "size", "expected"),
    [
        (7, 3, [3, 4]),
        (6, 3, [3, 3]),
        (8, 3, [3, 3, 2]),
        (1, 3, [1]),
        (3, 1, [1, 1, 1]),
        (4, 9, [4]),
    ],
)
def test_a_last_batch_of_one_row_joins_the_one_before(n, size, expected):
    loader = BatchLoader(dataset(n), batch_size=size)
    assert [len(rows) for rows in rows_of(loader)] == expected
    assert len(loader) == len(expected)


def test_shuffling_visits_each_row_once_and_depends_on_the_generator():
    def epoch(seed):
        generator = torch.Generator().manual_seed(seed)
        batches = rows_of(BatchLoader(dataset(50), 8, shuffle=True, generator=generator))
        return [row for batch in batches for row in batch]

    assert sorted(epoch(0)) == list(range(50)) != epoch(0)
    assert epoch(0) == epoch(0) != epoch(1)


def test_rows_travel_with_their_row_numbers():
    for X, rows in BatchLoader(dataset(50), 8, shuffle=True):
        np.testing.assert_array_equal(X[:, 0], 2 * rows)


def test_sparse_batches_are_dense_tensors():
    X = sparse.random(20, 30, density=0.2, format="csr", dtype=np.float32, random_state=0)
    batches = torch.cat([batch for batch, _ in BatchLoader(RowDataset(X), 6)])
    np.testing.assert_array_equal(batches, X.toarray())


def test_one_row_equals_that_row_of_a_batch():
    X, row = dataset(5)[3]
    assert (X.tolist(), row.item()) == ([6.0, 7.0], 3)


def test_a_batch_is_one_indexing(monkeypatch):
    """The point of the loader: a batch costs one fetch, through a Subset too."""
    calls = []
    fetch = RowDataset.__getitems__
    monkeypatch.setattr(
        RowDataset, "__getitems__", lambda self, rows: calls.append(len(rows)) or fetch(self, rows)
    )
    list(BatchLoader(dataset(10), 5))
    list(BatchLoader(Subset(dataset(10), np.arange(4)), 2))
    assert calls == [5, 5, 2, 2]


def test_unshuffled_loader_leaves_the_global_generator_alone():
    state = torch.get_rng_state()
    list(BatchLoader(dataset(10), 5))
    assert torch.equal(torch.get_rng_state(), state)


def test_drop_last_drops_the_incomplete_batch():
    assert [len(r) for r in rows_of(BatchLoader(dataset(8), 3, drop_last=True))] == [3, 3]


def test_workers_give_the_same_batches():
    plain = rows_of(BatchLoader(dataset(10), 4))
    assert rows_of(BatchLoader(dataset(10), 4, num_workers=1)) == plain


@pytest.mark.slow
def test_workers_leave_all_draws_of_a_fit_as_they_are():
    X, y = np.random.default_rng(0).normal(size=(60, 30)), np.arange(60) % 2  # inputs are dropped
    params = {"max_epochs": 2, "batch_size": 20, "random_state": 0}
    alone, by_workers = (
        ALRClassifier(**params, iterator_train__num_workers=n).fit(X, y) for n in (0, 1)
    )
    np.testing.assert_array_equal(alone.predict_proba(X), by_workers.predict_proba(X))


def test_a_sampler_of_ones_own_is_used():
    weights = [0, 0, 1, 0, 0]
    loader = BatchLoader(dataset(5), 2, sampler=WeightedRandomSampler(weights, 6))
    assert rows_of(loader) == [[2, 2]] * 3
