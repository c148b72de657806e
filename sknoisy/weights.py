"""What the loss of each row is multiplied by: sample weights and class weights."""

import numpy as np
import torch
from sklearn.utils import check_array
from sklearn.utils.class_weight import compute_class_weight

from sknoisy.training.datasets import as_array


def row_weights(labels, sample_weight, class_weights, has_label=None) -> torch.Tensor | None:
    """Return the weight of each row, 1 on average, or None for equal ones.

    Rows without a label, by the mask `has_label` (n_samples,), weigh 0.
    """
    if has_label is not None and has_label.all():
        has_label = None
    if sample_weight is None and class_weights is None and has_label is None:
        return None
    weights = np.ones(len(labels))
    if isinstance(sample_weight, torch.Tensor):
        sample_weight = as_array(sample_weight)
    if sample_weight is not None:
        try:
            weights = check_array(
                sample_weight, ensure_2d=False, dtype=np.float64, input_name="sample_weight"
            )
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"sample_weight must be one finite number a row of X: {error}"
            ) from error
        if weights.shape != labels.shape:
            raise ValueError(
                f"sample_weight must have one number a row of X, {labels.shape}, got"
                f" {weights.shape}."
            )
        if weights.min() < 0:
            raise ValueError(f"sample_weight must not be negative, got {weights.min():g}.")
    if class_weights is not None:
        weights = weights * class_weights[labels]
    if has_label is not None:
        weights = weights * has_label
    if not 0 < weights.sum() < np.inf:
        raise ValueError(
            f"sample_weight, times class_weight, must have a positive finite sum over rows with a"
            f" label, got {weights.sum():g}; not every weight may be zero, and none so large."
        )
    return torch.from_numpy(weights / weights.mean())


def weights_by_class(labels, classes, class_weight) -> np.ndarray:
    """Return the weight of each class (n_classes,) that `class_weight` means."""
    is_balanced = isinstance(class_weight, str) and class_weight == "balanced"
    if not (is_balanced or isinstance(class_weight, dict)):
        raise ValueError(f"class_weight must be None, 'balanced' or a dict, got {class_weight!r}.")
    try:
        # A class may have no label, where `label_proba` has a column for it.
        counted = np.unique(labels) if is_balanced else np.arange(len(classes))
        weights = np.ones(len(classes))
        weights[counted] = compute_class_weight(
            class_weight, classes=classes[counted], y=classes[labels]
        )
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"class_weight must give a number to labels of y, {classes.tolist()}, got"
            f" {class_weight!r}: {error}"
        ) from error
    if not (np.isfinite(weights).all() and weights.min() >= 0):
        raise ValueError(f"class_weight must be finite and not negative, got {weights}.")
    return weights
