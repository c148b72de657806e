import importlib.util

import pytest
import torch

from sknoisy.synthetic_mix import neighbors
from sknoisy.synthetic_mix.neighbors import nearest, nearest_in_set


@pytest.fixture
def features():
    return torch.randn(300, 16, generator=torch.Generator().manual_seed(0))


def brute_force(features, k):
    distances = torch.cdist(features.double(), features.double())
    distances.fill_diagonal_(torch.inf)
    return distances.argsort(dim=1)[:, :k]


def test_batch_and_chunks_find_the_exact_neighbors(features, monkeypatch):
    expected = brute_force(features, 5)
    assert torch.equal(nearest(features, 5), expected)
    monkeypatch.setattr(neighbors, "CHUNK_BYTES", 7 * 4 * 300)
    assert torch.equal(nearest_in_set(features, 5), expected)


@pytest.mark.skipif(not importlib.util.find_spec("faiss"), reason="faiss is not installed")
def test_faiss_finds_the_same_neighbors(features, monkeypatch):
    expected = nearest_in_set(features, 5)
    monkeypatch.setattr(neighbors, "FAISS_ROWS", 1)
    assert torch.equal(nearest_in_set(features, 5), expected)


@pytest.mark.parametrize("faiss_rows", [1, 1000])
def test_a_row_is_never_its_own_neighbor_among_duplicates(faiss_rows, monkeypatch):
    monkeypatch.setattr(neighbors, "FAISS_ROWS", faiss_rows)
    same = torch.ones(20, 3)
    own = torch.arange(20)[:, None]
    for found in (nearest(same, 4), nearest_in_set(same, 4)):
        assert found.shape == (20, 4)
        assert (found != own).all()
        assert all(len(set(row.tolist())) == 4 for row in found)


def test_fewer_rows_than_neighbors_give_all_others():
    assert nearest(torch.tensor([[0.0], [1.0], [3.0]]), 9).tolist() == [[1, 2], [0, 2], [1, 0]]
    assert nearest(torch.zeros(1, 2), 3).shape == (1, 0)


def test_far_from_the_origin_nothing_is_lost(features):
    assert torch.equal(nearest_in_set(features + 1000, 3), brute_force(features + 1000, 3))
