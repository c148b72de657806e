"""Copies of modules that keep results of a forward pass, which torch alone refuses to copy."""

from collections.abc import Iterator
from copy import deepcopy

from torch import Tensor, nn


def kept_results(module: nn.Module) -> Iterator[tuple[object, object, Tensor]]:
    """Yield the container, the key and the tensor of what forward passes left in attributes.

    Such as the weight that `torch.nn.utils.spectral_norm` computes, or attention maps.
    """
    containers = [vars(part) for part in module.modules()]
    while containers:
        container = containers.pop()
        items = container.items() if isinstance(container, dict) else enumerate(container)
        for key, value in list(items):
            if isinstance(value, Tensor):
                if not value.is_leaf:
                    yield container, key, value
            elif type(value) in (dict, list):
                containers.append(value)


def copy_module(module: nn.Module) -> nn.Module:
    """Return a deep copy of a module, whose kept results have no graph."""
    memo = {id(value): value.detach().clone() for *_, value in kept_results(module)}
    return deepcopy(module, memo)


def forget_graphs(module: nn.Module) -> None:
    """Detach what forward passes left in a module's attributes, so that it can be copied."""
    for container, key, value in kept_results(module):
        container[key] = value.detach()
