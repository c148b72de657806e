"""Rows of images as pictures: channels last, numbers in [0, 1]."""

import numpy as np


def picture_of(row):
    """Return a row of X, or the tensor of a pair (tensor, label), as an array."""
    return np.asarray(row[0] if isinstance(row, tuple) else row)


def as_picture(image):
    """Return an image as (height, width[, 3]) in [0, 1], see `channels_last`."""
    image = channels_last(image)
    if image.dtype == np.uint8:
        return image / 255
    image = image.astype(np.float64)
    low, high = min(image.min(), 0.0), image.max()
    if low < 0 or high > 1:
        low = image.min()
        return (image - low) / max(high - low, 1e-12)
    return image


def channels_last(image):
    """Return an image with 1 or 3 channels, first or last, as (height, width[, 3])."""
    if image.ndim == 3 and image.shape[0] in (1, 3) and image.shape[2] not in (1, 3):
        image = image.transpose(1, 2, 0)
    if image.ndim == 3 and image.shape[2] == 1:
        image = image[..., 0]
    if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] != 3):
        raise ValueError(
            f"X must hold images with 1 or 3 channels, got rows of shape {image.shape}."
        )
    return image


def as_bytes(image):
    """Return an image as (height, width[, 3]) of type uint8, see `as_picture`."""
    if image.dtype == np.uint8:
        return channels_last(image)
    return np.round(as_picture(image) * 255).astype(np.uint8)
