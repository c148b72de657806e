"""Memory layout of images and weights: channels last, where that is safe."""

import torch
from torch import Tensor, nn

ONEDNN_BLOCK = 16  # channels, with AVX-512; 8 with AVX2


def use_channels_last(network: nn.Module, batch: Tensor) -> None:
    """Lay out the weights for images as channels last, which is faster on CPU and GPU.

    A network that fails in this layout, because it calls `view` on its activations, keeps its own,
    and so does a layer that oneDNN computes wrongly.
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
    """Return whether the gradient of a layer would be written past the end of its memory.

    oneDNN on a CPU does so for a 1x1 convolution with a stride, in channels-last layout with fewer
    channels than a block: wrong numbers, a hang or a crash
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
