"""torchvision's models, adapted to channels, size and classes."""

from collections import OrderedDict
from difflib import get_close_matches

import torch
from torch import Tensor, nn

from sknoisy.networks.resnet import SMALL_PIXELS
from sknoisy.networks.standardize import StandardizeChannels


def from_torchvision(name: str, params: dict, image_shape, n_classes: int) -> nn.Module:
    """Return a torchvision model with its first and last layers adapted to the data.

    Parameters
    ----------
    name : str
        A name of `torchvision.models.list_models`.
    params : dict
        Parameters of the model; ``weights`` names pretrained ones, such as 'DEFAULT'.
    image_shape : tuple (channels, height, width)
        The first convolution takes that many channels. For images of at most 64 pixels, a stem
        that strides is replaced by a 3x3 convolution without max-pooling.
    n_classes : int
        Outputs of the last layer.
    """
    from torchvision import models

    known = models.list_models(module=models)
    if name not in known:
        close = get_close_matches(name, known, n=1)
        hint = f"did you mean {close[0]!r}?" if close else "see torchvision.models.list_models()."
        raise ValueError(f"module must be a name of a torchvision model, got {name!r}: {hint}")
    channels, height, width = image_shape
    params = dict(params)
    weights = _find_weights(name, params.pop("weights", None))
    params["weights"] = weights
    if name in ("googlenet", "inception_v3") and weights is None:
        params.setdefault("init_weights", True)
    if name.startswith("vit_") and weights is None:
        params.setdefault("image_size", height)
    if weights is None:
        params.setdefault("num_classes", n_classes)
    try:
        network = models.get_model(name, **params)
    except OSError as error:
        raise ValueError(
            f"module__weights={str(weights)!r} must be downloaded or lie in {torch.hub.get_dir()},"
            f" got {error}; pass module__weights=None to start from random weights."
        ) from error
    except (AssertionError, TypeError, ValueError) as error:
        raise ValueError(f"module {name!r} could not be built with {params}: {error}") from error
    for head in {"aux1", "aux2", "AuxLogits"} & dict(network.named_children()).keys():
        setattr(network, head, None)  # would change the output in training
        network.aux_logits = False
    if weights is not None:
        replace_head(network, n_classes)
    is_small = max(height, width) <= SMALL_PIXELS
    replace_stem(network, channels, is_small, keep_weights=weights is not None)
    mean, std = None, None
    if weights is not None and channels == 3:
        preset = weights.transforms()
        mean, std = list(preset.mean), list(preset.std)
    return nn.Sequential(
        OrderedDict(standardize=StandardizeChannels(channels, mean, std), network=network)
    )


def _find_weights(name, weights):
    """Return a member of the model's weights, or None."""
    from torchvision import models

    if not isinstance(weights, str):
        return weights
    known = models.get_model_weights(name)
    family, _, short = weights.rpartition(".")
    if family not in ("", known.__name__) or short not in {"DEFAULT", *known.__members__}:
        raise ValueError(
            f"module__weights must be 'DEFAULT' or one of {list(known.__members__)} for {name!r},"
            f" got {weights!r}."
        )
    return known[short] if short in known.__members__ else known.DEFAULT


def replace_head(network: nn.Module, n_classes: int) -> None:
    """Replace the last layer, linear or a 1x1 convolution, by one with `n_classes` outputs."""
    kinds = nn.Linear, nn.Conv2d
    name, old = [(n, m) for n, m in network.named_modules() if isinstance(m, kinds)][-1]
    if isinstance(old, nn.Linear):
        new = nn.Linear(old.in_features, n_classes, bias=old.bias is not None)
    else:
        new = nn.Conv2d(old.in_channels, n_classes, old.kernel_size)
    network.set_submodule(name, new)


def replace_stem(
    network: nn.Module, n_channels: int, is_small: bool, *, keep_weights: bool
) -> None:
    """Adapt the first convolution to the channels; for small images, to the size as well.

    A stem whose windows overlap and stride becomes a 3x3 convolution with stride 1, and the
    max-pooling before the second convolution is left out. Patch embeddings stay. With
    `keep_weights` the new layer begins with the center of the old one's, its mean over channels
    where their number differs.
    """
    convolutions = [(n, m) for n, m in network.named_modules() if isinstance(m, nn.Conv2d)]
    name, old = convolutions[0]
    strides = is_small and old.stride[0] > 1 and old.kernel_size[0] > old.stride[0]
    if old.in_channels == n_channels and not strides:
        return
    new = nn.Conv2d(
        n_channels,
        old.out_channels,
        kernel_size=3 if strides else old.kernel_size,
        stride=1 if strides else old.stride,
        padding=1 if strides else old.padding,
        bias=old.bias is not None,
    )
    if keep_weights:
        with torch.no_grad():
            new.weight.copy_(_fitted_weight(old.weight, new.weight))
    network.set_submodule(name, new)
    if strides:
        _leave_out_stem_pooling(network, convolutions[1][0])


def _fitted_weight(old: Tensor, new: Tensor) -> Tensor:
    """Return the weight (out, channels, k, k) of an old stem at the shape of a new one."""
    if new.shape[1] != old.shape[1]:
        old = old.mean(dim=1, keepdim=True).expand(-1, new.shape[1], -1, -1)
        old = old * (3 / new.shape[1])
    edge = (old.shape[2] - new.shape[2]) // 2
    return old[:, :, edge : edge + new.shape[2], edge : edge + new.shape[3]]


def _leave_out_stem_pooling(network, second_convolution):
    for name, layer in network.named_modules():
        if name == second_convolution:
            return
        if isinstance(layer, nn.MaxPool2d):
            network.set_submodule(name, nn.Identity())
            return
