"""scikit-learn's scalers as layers, in float64: large numbers of small differences need it."""

import torch
from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, RobustScaler, StandardScaler
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn


class Scaler(nn.Module):
    """``(X - shift) * factor + offset``, clipped to the limits if there are any.

    Parameters
    ----------
    shift, factor, offset : float or array-like of shape (n_features,)
        Numbers of all features, or of each.
    limits : tuple of two floats or None
        The lowest and the highest result.
    """

    def __init__(self, shift, factor, offset=0.0, limits=None):
        super().__init__()
        self.register_buffer("shift", torch.as_tensor(shift, dtype=torch.float64))
        self.register_buffer("factor", torch.as_tensor(factor, dtype=torch.float64))
        self.register_buffer("offset", torch.as_tensor(offset, dtype=torch.float64))
        self.limits = limits

    def forward(self, X: Tensor) -> Tensor:
        """Return X (B, n_features) scaled, in float64."""
        scaled = (X - self.shift) * self.factor + self.offset
        return scaled if self.limits is None else scaled.clamp(*self.limits)


def from_standard(step: StandardScaler) -> Scaler:
    """Return the layer for (X - mean) / deviation."""
    return Scaler(step.mean_ if step.with_mean else 0.0, 1 / step.scale_ if step.with_std else 1.0)


def from_min_max(step: MinMaxScaler) -> Scaler:
    """Return the layer for the range of fit to another."""
    return Scaler(0.0, step.scale_, step.min_, step.feature_range if step.clip else None)


def from_max_abs(step: MaxAbsScaler) -> Scaler:
    """Return the layer for X / largest magnitude."""
    clips = getattr(step, "clip", False)  # older versions of scikit-learn have no such parameter
    return Scaler(0.0, 1 / step.scale_, limits=(-1.0, 1.0) if clips else None)


def from_robust(step: RobustScaler) -> Scaler:
    """Return the layer for (X - median) / range of quantiles."""
    return Scaler(
        step.center_ if step.with_centering else 0.0,
        1 / step.scale_ if step.with_scaling else 1.0,
    )


LAYERS = {
    StandardScaler: from_standard,
    MinMaxScaler: from_min_max,
    MaxAbsScaler: from_max_abs,
    RobustScaler: from_robust,
}


def as_layer(step) -> Scaler:
    """Return the layer for a fitted scaler of scikit-learn; TypeError for another step."""
    if type(step) not in LAYERS:  # one of a subclass may do something else
        names = ", ".join(kind.__name__ for kind in LAYERS)
        raise TypeError(
            f"estimator must have no steps but {names} and 'passthrough' before the classifier, got"
            f" {type(step).__name__}; export the classifier alone, pipeline[-1], and transform"
            " before, or convert pipeline[:-1] with skl2onnx and join both with"
            " onnx.compose.merge_models."
        )
    check_is_fitted(step)
    return LAYERS[type(step)](step)
