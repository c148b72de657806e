"""The label network: from features of the warmed-up classifier to logits of labels."""

from copy import deepcopy

import numpy as np
import torch
from torch import Tensor, nn

from sknoisy.networks.copying import copy_module
from sknoisy.training.features import find_feature_layer, pass_through, unwrap
from sknoisy.user_warnings import warn


class LabelNetwork(nn.Module):
    """A linear label network on features.

    Parameters
    ----------
    features : Tensor of shape (n, D)
        Of all rows, computed when the warm-up ends; (0, D) where they are not kept.
    linear : nn.Linear
        From features to logits of labels: what is learned.
    """

    def __init__(self, features: Tensor, linear: nn.Linear):
        super().__init__()
        self.register_buffer("features", features)
        self.linear = linear


def new_linear(
    features: Tensor, like: Tensor, rng: np.random.Generator, *, is_random: bool
) -> nn.Linear:
    """Return the linear layer of a label network for features (n, D), in the type of `like` (n, C).

    Its weights are random, drawn by `rng`, or zeros, which correct nothing.
    """
    with torch.random.fork_rng([]):
        if is_random:
            torch.manual_seed(int(rng.integers(2**31)))
        linear = nn.Linear(features.shape[1], like.shape[1], dtype=like.dtype)
    if not is_random:
        nn.init.zeros_(linear.weight)
        nn.init.zeros_(linear.bias)
    return linear.to(features.device)


def corrected(logits: Tensor, correction: Tensor, absent: Tensor | None) -> Tensor:
    """Return logits plus their correction, both (B, C).

    Classes without trusted rows, `absent` (C,), keep their probabilities: a network that was never
    shown a row of them would give all of theirs away.
    """
    if absent is None:
        return logits + correction
    before = logits.masked_fill(absent, -torch.inf).logsumexp(dim=1, keepdim=True)
    moved = (logits + correction).masked_fill(absent, -torch.inf)
    return torch.where(absent, logits, moved + before - moved.logsumexp(dim=1, keepdim=True))


def linear_from(state: dict) -> nn.Linear:
    """Return the linear layer that has a state dict's weights."""
    weight = state["weight"]
    linear = nn.Linear(*weight.shape[::-1], dtype=weight.dtype)
    linear.load_state_dict(state)
    return linear


class FrozenFeatures:
    """The warmed-up network as it is: features of inputs that change, or of too many to be kept.

    Parameters
    ----------
    module : nn.Module
        The network; a copy is kept.
    feature_layer : str or None
        As in `MetaLabelNetClassifier`.
    """

    def __init__(self, module: nn.Module, feature_layer):
        self.module = copy_module(unwrap(module)).eval()
        self.layer = find_feature_layer(self.module, feature_layer)

    @torch.no_grad()
    def __call__(self, net, X: Tensor) -> Tensor:
        """Return the features (B, D) of a batch."""
        return pass_through(net, X, self.layer, module=self.module)[1]


class BestEpoch:
    """The epoch of best accuracy on trusted rows, the loss deciding ties, and its weights."""

    def __init__(self):
        self.epoch = 0
        self.score = None
        self.weights = None

    def see(self, epoch: int, accuracy: float, loss: float, *modules: nn.Module | None) -> None:
        """Keep the weights of the modules if no earlier epoch was as good."""
        if self.score is None or (accuracy, -loss) > self.score:
            self.epoch, self.score = epoch, (accuracy, -loss)
            self.weights = deepcopy([None if m is None else m.state_dict() for m in modules])

    def restore(self, *modules: nn.Module | None) -> None:
        """Put the kept weights into the modules."""
        for module, weights in zip(modules, self.weights or (), strict=False):
            if weights is not None:
                module.load_state_dict(weights)


def warn_if_linear(module, layer):
    """Warn where nothing is learned before the features: weights are in `layer` alone."""
    own = {id(p) for p in layer.parameters()}
    if all(id(p) in own for p in module.parameters() if p.ndim > 1):
        warn(
            f"module should have a hidden layer, got none before the features of"
            f" {type(module).__name__}: the labels learned can then be no richer than a logistic"
            " model's.",
        )
