"""The default networks, torchvision's and the user's own, checked before any training."""

import inspect
from difflib import get_close_matches
from functools import partial

import torch
from torch import Tensor, nn

from sknoisy.networks.copying import copy_module
from sknoisy.networks.mlp import MLP, auto_columns, auto_input_dropout
from sknoisy.networks.resnet import SmallResNet
from sknoisy.networks.sparse_linear import SparseLinear
from sknoisy.networks.standardize import Standardize, StandardizeChannels
from sknoisy.networks.torchvision import from_torchvision
from sknoisy.user_warnings import warn


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
        return copy_module(module)
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
            chosen = {"input_dropout": auto_input_dropout(X), "columns": auto_columns(X)}
            params = chosen | params
        network = _call(factory, factory, params, X.shape[1], n_classes)
    else:
        raise TypeError(
            f"module must be None, a name of a torchvision model, an nn.Module class, factory or"
            f" instance, got {module!r}."
        )
    if not isinstance(network, nn.Module):
        raise TypeError(f"module must return an nn.Module, got {type(network).__name__}.")
    for layer in network.modules():
        if isinstance(layer, Standardize | StandardizeChannels | SparseLinear):
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


def check_logits(network: nn.Module, batch: Tensor, n_classes: int) -> None:
    """Raise or warn unless the network maps `batch` to logits of shape (B, n_classes)."""
    if not any(p.requires_grad for p in network.parameters()):
        raise ValueError(
            "module must have parameters to train, got none that requires a gradient; leave the"
            " last layer free, by layer.requires_grad_(True)."
        )
    was_training = network.training
    network.eval()  # no BatchNorm statistics change, and dropout is off
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
        warn(
            "module seems to end in a softmax: its outputs are non-negative and sum to 1 in each"
            " row. It must return logits; leave the last softmax out.",
        )
