"""Penultimate features, and extra forward passes that preserve buffers and generators."""

from contextlib import ExitStack, contextmanager, nullcontext

import torch
from skorch import NeuralNet
from torch import Tensor, nn
from torch.utils.data import Subset

from sknoisy.functional import at_least_float32
from sknoisy.training.net import as_inputs
from sknoisy.training.ranks import ALONE


def unwrap(module: nn.Module) -> nn.Module:
    """Return the module that torch.compile wrapped, or the module itself."""
    return getattr(module, "_orig_mod", module)


def find_feature_layer(module: nn.Module, name: str | None = None) -> nn.Module:
    """Return the layer whose input is the features: the last nn.Linear, or the one named.

    Raises
    ------
    ValueError
        If there is no such layer; the message names the parameter `feature_layer`.
    """
    layers = dict(module.named_modules())
    if name is not None:
        if name not in layers:
            known = ", ".join(n for n in layers if n)
            raise ValueError(f"feature_layer must name a layer of module, got {name!r}: {known}.")
        return layers[name]
    linear = [layer for layer in layers.values() if isinstance(layer, nn.Linear)]
    if not linear:
        raise ValueError(
            f"feature_layer must name the layer whose input is the features, got None, and"
            f" {type(module).__name__} has no nn.Linear to take instead:"
            f" {', '.join(n for n in layers if n)}."
        )
    return linear[-1]


def logits_and_features(module: nn.Module, X: Tensor, layer: nn.Module) -> tuple[Tensor, Tensor]:
    """Return the module's output for X and, from the same pass, the input of `layer` (B, D)."""
    caught = []
    hook = layer.register_forward_pre_hook(lambda _, inputs: caught.append(inputs[0]))
    try:
        logits = module(X)
    finally:
        hook.remove()
    if not caught:
        raise ValueError("feature_layer must name a layer that the forward pass runs through.")
    return logits, caught[-1].flatten(start_dim=1)


def pass_through(
    net: NeuralNet, X: Tensor, layer: nn.Module, module: nn.Module | None = None
) -> tuple[Tensor, Tensor]:
    """Return logits (B, C) and features (B, D) of a batch, by an extra forward pass.

    It runs in the net's precision and on its device, but through the uncompiled module, or another
    `module`, in the mode that this is in.
    """
    module = unwrap(net.module_) if module is None else module
    contexts = (getattr(net, name, nullcontext)() for name in ("autocast", "batch_norm"))
    with ExitStack() as stack:
        for context in contexts:
            stack.enter_context(context)
        logits, features = logits_and_features(module, as_inputs(X, net.device), layer)
    return at_least_float32(logits), at_least_float32(features)


def write_logits(net, dataset, rows: Tensor, table: Tensor, convert=at_least_float32) -> None:
    """Write the logits (k, C) of rows (k,) of a dataset into those of a table, batch by batch.

    ``convert(logits)`` is what is written. Processes that share a fit pass a part each.
    """
    if not len(rows):
        return
    ranks = getattr(net, "ranks", ALONE)
    rows, done = ranks.own(rows), 0
    for logits in net.forward_iter(Subset(dataset, rows.numpy())):
        table[rows[done : done + len(logits)]] = convert(logits).to(table)
        done += len(logits)
    ranks.exchange(table, rows)


@contextmanager
def preserved(module: nn.Module):
    """Restore the module's buffers and torch's generators after the block.

    A forward pass in train mode inside the block changes no BatchNorm statistics, and the pass
    after it draws the same dropout masks.
    """
    buffers = [(buffer, buffer.clone()) for buffer in module.buffers()]
    devices = {p.device.index for p in module.parameters() if p.device.type == "cuda"}
    with torch.random.fork_rng(devices):
        try:
            yield
        finally:
            with torch.no_grad():
                for buffer, before in buffers:
                    buffer.copy_(before)
