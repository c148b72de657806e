"""Exact nearest neighbors of rows among themselves, within a batch or a whole set."""

import importlib.util

import torch
from torch import Tensor

CHUNK_BYTES = 2**28  # of distances held at once by the whole-set search
FAISS_ROWS = 10_000  # below this, building faiss's index does not pay


def nearest(features: Tensor, n_neighbors: int, own: Tensor | None = None) -> Tensor:
    """Return the positions (B, K) of each row's nearest other rows, nearest first.

    Euclidean distance of features (B, D). A row is never its own neighbor, duplicates included;
    K is `n_neighbors`, or B - 1 where there are fewer other rows. For rows `own` (Q,) alone, which
    follow one another, where these are given.
    """
    squares = features.square().sum(dim=1)
    queries, first = _own(features, own)
    return _nearest_to(queries, first, features, squares, n_neighbors)


def _own(features, own):
    """Return the rows to look neighbors up for, and the number of the first of them."""
    if own is None or len(own) == len(features):
        return features, 0
    return features[own], int(own[0]) if len(own) else 0


def nearest_in_set(features: Tensor, n_neighbors: int, own: Tensor | None = None) -> Tensor:
    """Return what `nearest` does, for sets too large for one matrix of distances.

    Chunks of rows on the device of `features`; faiss, where it is installed, for large sets on
    the CPU.
    """
    features = features.float()
    features = features - features.mean(dim=0)  # (N, D); squares of small numbers lose less
    in_faiss = features.device.type == "cpu" and importlib.util.find_spec("faiss")
    if in_faiss and len(features) >= FAISS_ROWS:
        found = _nearest_by_faiss(features, n_neighbors)
        return found if own is None else found[own]
    squares = features.square().sum(dim=1)
    size = max(1, CHUNK_BYTES // (4 * len(features)))
    queries, first = _own(features, own)
    found = [
        _nearest_to(chunk, first + k * size, features, squares, n_neighbors)
        for k, chunk in enumerate(queries.split(size))
    ]
    return torch.cat(found)


def _nearest_to(queries, first, features, squares, n_neighbors):
    """Positions (Q, K) in `features` nearest to `queries`, its rows from `first` on."""
    # |q - f|^2 without |q|^2, which does not change a row's order.
    distances = torch.addmm(squares, queries, features.T, alpha=-2)  # (Q, N)
    distances.diagonal(offset=first).fill_(torch.inf)
    return distances.topk(min(n_neighbors, len(features) - 1), largest=False).indices


def _nearest_by_faiss(features, n_neighbors):
    import faiss

    index = faiss.IndexFlatL2(features.shape[1])
    index.add(features.numpy())
    _, found = index.search(features.numpy(), min(n_neighbors + 1, len(features)))
    found = torch.from_numpy(found)  # (N, K + 1), with the row itself somewhere, or not at all
    others = found != torch.arange(len(found))[:, None]
    others[others.all(dim=1), -1] = False  # more duplicates than places: drop the last
    return found[others].view(len(found), -1)
