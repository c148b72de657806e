"""Networks: the default for tables, and the user's own, checked before any training."""

import inspect
import warnings
from copy import deepcopy
from difflib import get_close_matches
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

MAX_DEVIATIONS = 5.0  # standard deviations; outliers beyond it would dominate a batch
CHUNK_ROWS = 4096


class Standardize(nn.Module):
    """Shift and scale each feature by constants taken from the training data, then clip.

    Values further than 5 standard deviations from the mean are clipped, once fitted. Columns of a
    sparse matrix are scaled but not shifted: their zeros stay zeros.
    """

    def __init__(self, n_features: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(n_features))
        self.register_buffer("scale", torch.ones(n_features))
        self.register_buffer("limit", torch.tensor(torch.inf))

    def fit(self, X) -> "Standardize":
        """Take the constants from X (n_samples, n_features), an array or a CSR matrix."""
        # In chunks: squares of the whole of X in float64 would take twice its memory.
        chunks = [slice(k, k + CHUNK_ROWS) for k in range(0, X.shape[0], CHUNK_ROWS)]
        mean = sum(_column_sums(X[rows]) for rows in chunks) / X.shape[0]
        if hasattr(X, "toarray"):
            squares = sum(_column_sums(X[rows].power(2)) for rows in chunks) / X.shape[0]
            variance = np.maximum(squares - mean**2, 0)
            mean = np.zeros_like(mean)
        else:
            variance = sum(_column_sums((X[rows] - mean) ** 2) for rows in chunks) / X.shape[0]
        scale = np.sqrt(variance)
        # A constant column keeps rounding noise as its spread: treat it as no spread.
        constant = scale <= 10 * np.finfo(np.float32).eps * np.abs(mean)
        self.mean.copy_(torch.from_numpy(mean))
        self.scale.copy_(torch.from_numpy(np.where(constant, 1.0, scale)))
        self.limit.fill_(MAX_DEVIATIONS)
        return self

    def forward(self, X: Tensor) -> Tensor:
        """Return X (B, n_features) standardized."""
        return ((X - self.mean) / self.scale).clamp(-self.limit, self.limit)


def _column_sums(X):
    return np.asarray(X.sum(axis=0, dtype=np.float64)).ravel()


class UniformDropout(nn.Dropout):
    """Dropout whose mask compares uniform numbers: on a CPU in half the time of torch's."""

    def forward(self, X: Tensor) -> Tensor:
        """Return X with the share p of its numbers zeroed and the others scaled, in training."""
        if not self.training or X.is_cuda:
            return super().forward(X)
        return X * (torch.rand_like(X) >= self.p) / (1 - self.p)


class MLP(nn.Sequential):
    """Multi-layer perceptron for tables: the network that ``module=None`` builds.

    Parameters
    ----------
    n_features, n_classes : int
        Sizes of input and output.
    hidden : int or tuple of int, default=(256, 256)
        Units of the hidden layers.
    dropout : float, default=0.25
        Share of the hidden units dropped in training.
    """

    def __init__(self, n_features: int, n_classes: int, *, hidden=(256, 256), dropout=0.25):
        widths = [n_features, *np.atleast_1d(hidden).tolist()]
        layers = [Standardize(n_features)]
        for fan_in, fan_out in pairwise(widths):
            layers += [nn.Linear(fan_in, fan_out), nn.ReLU(), UniformDropout(dropout)]
        super().__init__(*layers, nn.Linear(widths[-1], n_classes))


def build_module(module, params: dict, X, n_classes: int) -> nn.Module:
    """Return a new network for rows like those of X.

    Parameters
    ----------
    module : None, nn.Module class or factory, or nn.Module
        None builds an `MLP`. A class or factory is called with `params`, and with
        ``n_features`` and ``n_classes`` where it takes parameters of these names.
        An instance is copied.
    params : dict
        The estimator's ``module__*`` parameters.
    X : ndarray of shape (n_samples, ...) or CSR matrix
        The training data.
    n_classes : int
        Number of classes.
    """
    if isinstance(module, nn.Module):
        if params:
            raise ValueError(
                f"module__{min(params)} needs a module that is a class or a factory, got an"
                f" instance of {type(module).__name__}; pass module={type(module).__name__}."
            )
        return deepcopy(module)
    if module is None and X.ndim > 2:
        raise ValueError(
            f"module must be given for X with more than 2 dimensions, got module=None and X of"
            f" shape {X.shape}; pass an nn.Module that maps a batch to logits."
        )
    factory = MLP if module is None else module
    if not callable(factory):
        raise TypeError(
            f"module must be None, an nn.Module class, factory or instance, got {module!r}."
        )
    sizes = {"n_features": X.shape[1], "n_classes": n_classes}
    network = factory(**_accepted_sizes(factory, params, sizes), **params)
    if not isinstance(network, nn.Module):
        raise TypeError(f"module must return an nn.Module, got {type(network).__name__}.")
    for layer in network.modules():
        if isinstance(layer, Standardize):
            layer.fit(X)
    return network


def _accepted_sizes(factory, params, sizes):
    """Check `params` against the factory's signature; return the sizes that it takes."""
    accepted = inspect.signature(factory).parameters
    takes_any = any(p.kind is p.VAR_KEYWORD for p in accepted.values())
    for name in params:
        if name not in accepted and not takes_any:
            close = get_close_matches(name, accepted, n=1)
            hint = f"did you mean module__{close[0]}?" if close else f"it takes {list(accepted)}."
            raise TypeError(
                f"module__{name} is not a parameter of {getattr(factory, '__name__', factory)}:"
                f" {hint}"
            )
    return {k: v for k, v in sizes.items() if k in accepted and k not in params}


def use_channels_last(network: nn.Module, batch: Tensor) -> None:
    """Lay out the weights for images as channels last, which is faster on CPU and GPU.

    A network that cannot run so, because it calls `view` on its activations, keeps its layout.
    """
    if batch.ndim != 4:
        return
    was_training = network.training
    network.eval().to(memory_format=torch.channels_last)
    try:
        with torch.no_grad():
            network(batch)
    except RuntimeError:
        network.to(memory_format=torch.contiguous_format)
    network.train(was_training)


def check_logits(network: nn.Module, batch: Tensor, n_classes: int) -> None:
    """Raise or warn unless the network maps `batch` to logits of shape (B, n_classes)."""
    was_training = network.training
    network.eval()  # a look, not a step: no BatchNorm statistics, no dropout
    try:
        with torch.no_grad():
            logits = network(batch)
    except (RuntimeError, ValueError, TypeError) as error:
        raise ValueError(
            f"module must process batches of X, got {type(error).__name__} for a batch of shape"
            f" {tuple(batch.shape)} and dtype {batch.dtype}: {error}"
        ) from error
    network.train(was_training)
    if not isinstance(logits, Tensor) or logits.ndim != 2 or logits.shape[1] != n_classes:
        got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise ValueError(
            f"module must return one logit a class: y has {n_classes} classes, the output for a"
            f" batch of {len(batch)} rows is {got}; its last layer needs {n_classes} outputs."
        )
    total = logits.sum(dim=1)
    if (logits >= 0).all() and torch.allclose(total, torch.ones_like(total), atol=1e-4):
        warnings.warn(
            "module seems to end in a softmax: its outputs are non-negative and sum to 1 in each"
            " row. It must return logits; leave the last softmax out.",
            UserWarning,
            stacklevel=5,  # the caller of fit
        )
