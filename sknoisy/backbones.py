"""Networks: the defaults, torchvision's and the user's own, checked before any training."""

import inspect
import warnings
from copy import deepcopy
from difflib import get_close_matches
from functools import partial
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from sknoisy.images import SmallResNet, from_torchvision
from sknoisy.standardize import Standardize, StandardizeChannels

TEXT_COLUMNS, TEXT_DROPOUT = 1000, 0.5
INPUT_DROPOUTS = {200: 0.2, 30: 0.1}  # share dropped of so many columns or more
ONEDNN_BLOCK = 16  # channels, with AVX-512; 8 with AVX2


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
    input_dropout : float, default=0.0
        Share of the inputs dropped in training. ``module=None`` takes what `auto_input_dropout`
        returns.
    """

    def __init__(
        self,
        n_features: int,
        n_classes: int,
        *,
        hidden=(256, 256),
        dropout=0.25,
        input_dropout=0.0,
    ):
        widths = [n_features, *np.atleast_1d(hidden).tolist()]
        layers = [Standardize(n_features)]
        if input_dropout:
            layers.append(UniformDropout(input_dropout))
        for fan_in, fan_out in pairwise(widths):
            layers += [nn.Linear(fan_in, fan_out), nn.ReLU(), UniformDropout(dropout)]
        super().__init__(*layers, nn.Linear(widths[-1], n_classes))
        self.input_dropout = input_dropout


def auto_input_dropout(X) -> float:
    """Return the share of inputs to drop: 0.1 from 30 columns on, 0.2 from 200; 0.5 for text.

    Of many columns the others tell a row as well, but a single odd value memorises it; of few,
    each may count. Text is a sparse matrix of 1,000 columns or more: rows are told by any half of
    their words.
    """
    if hasattr(X, "toarray") and X.shape[1] >= TEXT_COLUMNS:
        return TEXT_DROPOUT
    return next((share for least, share in INPUT_DROPOUTS.items() if X.shape[1] >= least), 0.0)


def build_module(module, params: dict, X, n_classes: int) -> nn.Module:
    """Return a new network for rows like those of X.

    Parameters
    ----------
    module : None, str, nn.Module class or factory, or nn.Module
        None builds an `MLP`, or a `SmallResNet` for images (n, channels, height, width); a name,
        a model of torchvision. A class or factory is called with `params`, and with
        ``n_features`` and ``n_classes`` where it takes parameters of these names.
        An instance is copied.
    params : dict
        The estimator's ``module__*`` parameters.
    X : array-like of shape (n_samples, ...) or CSR matrix
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
    if isinstance(module, str):
        if X.ndim != 4:
            raise ValueError(
                f"module={module!r} needs images (n, channels, height, width), got X of shape"
                f" {X.shape}; reshape X, or pass another module."
            )
        network = from_torchvision(module, params, X.shape[1:], n_classes)
    elif module is None and X.ndim > 2:
        if X.ndim != 4:
            raise ValueError(
                f"module must be given for X that is neither a table nor images, got module=None"
                f" and X of shape {X.shape}; pass an nn.Module that maps a batch to logits."
            )
        factory = partial(SmallResNet, X.shape[1], pixels=max(X.shape[2:]))
        network = _call(factory, SmallResNet, params, X.shape[1], n_classes)
    elif module is None or callable(module):
        factory = MLP if module is None else module
        if module is None:
            params = {"input_dropout": auto_input_dropout(X), **params}
        network = _call(factory, factory, params, X.shape[1], n_classes)
    else:
        raise TypeError(
            f"module must be None, a name of a torchvision model, an nn.Module class, factory or"
            f" instance, got {module!r}."
        )
    if not isinstance(network, nn.Module):
        raise TypeError(f"module must return an nn.Module, got {type(network).__name__}.")
    for layer in network.modules():
        if isinstance(layer, Standardize | StandardizeChannels):
            layer.fit(X)
    return network


def _call(factory, named, params, n_features, n_classes):
    """Call a factory with `params`, checked against its signature, and the sizes it takes."""
    sizes = {"n_features": n_features, "n_classes": n_classes}
    accepted = inspect.signature(factory).parameters
    takes_any = any(p.kind is p.VAR_KEYWORD for p in accepted.values())
    for name in params:
        if name not in accepted and not takes_any:
            close = get_close_matches(name, accepted, n=1)
            hint = f"did you mean module__{close[0]}?" if close else f"it takes {list(accepted)}."
            raise TypeError(
                f"module__{name} is not a parameter of {getattr(named, '__name__', named)}: {hint}"
            )
    sizes = {k: v for k, v in sizes.items() if k in accepted and k not in params}
    return factory(**sizes, **params)


def use_channels_last(network: nn.Module, batch: Tensor) -> None:
    """Lay out the weights for images as channels last, which is faster on CPU and GPU.

    A network that cannot run so, because it calls `view` on its activations, keeps its layout, and
    so does a layer that oneDNN gets wrong.
    """
    if batch.ndim != 4:
        return
    was_training = network.training
    network.eval().to(memory_format=torch.channels_last)
    for layer in network.modules():
        if _skips_pixels_of_few_channels(layer):
            layer.to(memory_format=torch.contiguous_format)
            layer.register_forward_pre_hook(_lay_out_channels_first)
    try:
        with torch.no_grad():
            network(batch)
    except Exception:  # whatever the user's network raises
        network.to(memory_format=torch.contiguous_format)
    network.train(was_training)


def _skips_pixels_of_few_channels(layer):
    """Tell whether the gradient of a layer would be written past the end of its memory.

    That of a 1x1 convolution with a stride, channels last and fewer of them than a block has, by
    oneDNN on a CPU: wrong numbers, a hang or a crash
    (https://github.com/uxlfoundation/oneDNN/issues/6035).
    """
    return (
        isinstance(layer, nn.Conv2d)
        and layer.kernel_size == (1, 1)
        and layer.stride != (1, 1)
        and layer.in_channels < ONEDNN_BLOCK
    )


def _lay_out_channels_first(layer, inputs):
    # not contiguous(), which leaves the strides of a single channel as they are
    return tuple(X.clone(memory_format=torch.contiguous_format) for X in inputs)


def check_logits(network: nn.Module, batch: Tensor, n_classes: int) -> None:
    """Raise or warn unless the network maps `batch` to logits of shape (B, n_classes)."""
    was_training = network.training
    network.eval()  # a look, not a step: no BatchNorm statistics, no dropout
    try:
        with torch.no_grad():
            logits = network(batch)
    except Exception as error:  # whatever the user's network raises
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
