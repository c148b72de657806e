"""Random augmentation of training images, drawn for each image."""

import torch
from torch import Tensor, nn


class RandomCropFlip(nn.Module):
    """Pad and randomly crop each image of a batch; flip half of them.

    torchvision's transforms draw once a call: all images of a batch would be cropped alike.

    Parameters
    ----------
    padding : None or int, default=None
        Pixels on each side; None takes an eighth of the height, 4 for 32 pixels.
    flip : None or bool, default=None
        Whether to mirror images left to right; None mirrors those with 3 channels: digits and
        letters, usually grayscale, lose their meaning.
    """

    def __init__(self, padding: int | None = None, flip: bool | None = None):
        super().__init__()
        self.padding = padding
        self.flip = flip

    def forward(self, X: Tensor) -> Tensor:
        """Return images X (B, channels, height, width), each augmented independently."""
        n, channels, height, width = X.shape
        padding = max(1, height // 8) if self.padding is None else self.padding
        flip = channels == 3 if self.flip is None else self.flip

        def draw(high):
            return torch.randint(high, (n, 1), device=X.device)

        rows = draw(2 * padding + 1) + torch.arange(height, device=X.device)  # (B, height)
        columns = draw(2 * padding + 1) + torch.arange(width, device=X.device)  # (B, width)
        if flip:
            columns = torch.where(draw(2) > 0, columns, columns.flip(1))
        padded = nn.functional.pad(X, [padding] * 4).permute(0, 2, 3, 1)
        images = torch.arange(n, device=X.device)[:, None, None]
        return padded[images, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def build_augmentation(augment, image_shape):
    """Return the transform for the parameter `augment`, or None."""
    if augment is None:
        return None
    if isinstance(augment, str) and augment == "auto":
        if len(image_shape) != 3:
            raise ValueError(
                f"augment='auto' needs images, got rows of shape {tuple(image_shape)}; pass None."
            )
        return RandomCropFlip()
    if isinstance(augment, type) or not callable(augment):
        raise ValueError(f"augment must be None, 'auto' or a callable, no class, got {augment!r}.")
    return augment
