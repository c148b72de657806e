"""Mixtures of neighbors: how clean labels look, and how rows are mixed.

Source: Y. Lu, W. He, "Mitigating Noisy Supervision Using Synthetic Samples with Soft Labels",
arXiv 2406.16966, 2024, and the authors' published code.
"""

import torch
from torch import Tensor

from sknoisy.functional import BatchLabels, at_least_float32, weighted_mean
from sknoisy.synthetic_mix.two_gaussians import fit_two_gaussians

EPSILON = 1e-10
AGREEMENT = 0.8
FEW_CLASSES = 5
MIXTURE_ROWS = 10_000  # more losses fit the two Gaussians no better, in more time


def linear_loss(logits: Tensor, labels: BatchLabels) -> Tensor:
    """Minus the mean probability given to the soft labels (B, C): bounded, so robust to noise."""
    p = at_least_float32(logits).softmax(dim=1)
    return weighted_mean(-(labels.targets * p).sum(dim=1), labels.weights)


def label_losses(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy (B,) of each row against the class of its largest soft label (B, C)."""
    return torch.nn.functional.cross_entropy(
        at_least_float32(logits), targets.argmax(dim=1), reduction="none"
    )


def scale_to_unit(losses: Tensor, counted: Tensor | slice = slice(None)) -> Tensor:
    """Scale losses (n,) to [0, 1] by the range of the counted ones; zeros without finite range."""
    low, high = losses[counted].min(), losses[counted].max()
    if not (torch.isfinite(low) and torch.isfinite(high)) or low == high:
        return torch.zeros_like(losses)
    return ((losses - low) / (high - low)).clamp(0, 1)


def clean_probability(
    scaled_losses: Tensor, counted: Tensor | slice = slice(None), seed: int = 0
) -> Tensor:
    """Posterior (n,) that a row belongs to the lower-loss part of a two-Gaussian mixture.

    The mixture is fitted to the counted rows. Equal losses say nothing: every row is clean then.
    """
    of_counted = scaled_losses[counted]
    if of_counted.min() == of_counted.max():
        return torch.ones_like(scaled_losses)
    fitted = of_counted.double().numpy(force=True)
    mixture = fit_two_gaussians(fitted[:: -(-len(fitted) // MIXTURE_ROWS)], seed)
    posterior = mixture.shares(scaled_losses.double().numpy(force=True))
    return torch.from_numpy(posterior[:, mixture.means.argmin()]).to(scaled_losses)


def mixing_weights(clean: Tensor, neighbors_clean: Tensor) -> Tensor:
    """Weights (B, 1 + K) of each row and its neighbors in the mixed sample; rows sum to 1.

    lambda = (w + eps) / (w + sum_k w_k + eps) and beta_k = w_k / (w + sum_k w_k + eps), from the
    clean probabilities w (B,) of the rows and w_k (B, K) of their neighbors.
    """
    weights = torch.cat([clean[:, None] + EPSILON, neighbors_clean], dim=1)
    return weights / weights.sum(dim=1, keepdim=True)


def mixing_matrix(weights: Tensor, positions: Tensor, n_columns: int) -> Tensor:
    """Matrix (B, n_columns) that mixes: weight j of row i stands in column positions[i, j]."""
    matrix = weights.new_zeros(len(weights), n_columns)
    return matrix.scatter_add_(1, positions, weights)


def mixup_matrix(weight: Tensor, partners: Tensor) -> Tensor:
    """Matrix (B, B) of mixup: each row by `weight`, and the rest of its partner (B,)."""
    matrix = torch.eye(len(partners), dtype=weight.dtype, device=partners.device)
    return weight * matrix + (1 - weight) * matrix[partners]


def weigh(matrix: Tensor, weights: Tensor) -> Tensor:
    """Scale the weights (B, M) of a mixture by the weights (M,) of the rows; rows sum to 1.

    A mixture of rows that all weigh nothing stays as it is: its loss weighs nothing either.
    """
    weighed = matrix * weights.to(matrix.dtype)
    total = weighed.sum(dim=1, keepdim=True)
    return torch.where(total > 0, weighed / total.where(total > 0, 1), matrix)


def mix(matrix: Tensor, X: Tensor) -> Tensor:
    """Rows (B, ...) mixed from the rows of X (M, ...) by the matrix (B, M), in the finer type."""
    if X.is_sparse:
        return mix_sparse(matrix, X)
    dtype = torch.promote_types(matrix.dtype, X.dtype)
    return (matrix.to(dtype) @ X.flatten(start_dim=1).to(dtype)).unflatten(1, X.shape[1:])


def mix_sparse(matrix: Tensor, X: Tensor) -> Tensor:
    """Return the same of sparse rows, as a coalesced tensor: torch has no product for them."""
    into, of = matrix.nonzero(as_tuple=True)
    parts = X.index_select(0, of).coalesce()  # (P, D), P weights of the matrix that are not zero
    rows, columns = parts.indices()
    values = matrix[into, of][rows] * parts.values()
    entries = torch.stack([into[rows], columns])
    shape = len(matrix), X.shape[1]
    return torch.sparse_coo_tensor(entries, values, shape, check_invariants=False).coalesce()


def auto_neighbors(n_classes: int, agreement: float) -> int:
    """Return 3 neighbors for more than 5 well-separated classes, else 1.

    They are well separated if the network predicts the same class for a row and for `AGREEMENT` of
    its 3 nearest neighbors, on average. More neighbors average out more noise if they are of one
    class.
    """
    return 3 if n_classes > FEW_CLASSES and agreement >= AGREEMENT else 1
