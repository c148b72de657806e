"""Class probabilities of rows, from the logits of a fitted network and its temperature."""

import numpy as np
import torch

from sknoisy.inputs import RowFormat, read_rows
from sknoisy.training.datasets import DatasetRows


def temperature_of(estimator) -> float:
    """Return what the logits are divided by: 1 without evidence or `calibrate`."""
    evidence = getattr(estimator, "evidence_", None)  # not there in the midst of a fit
    return evidence.temperature if estimator.calibrate and evidence is not None else 1.0


def predict_rows(estimator, net, X, row_format: RowFormat, activation) -> np.ndarray:
    """Return the activation of the calibrated logits of X, shape (n_samples, n_classes).

    Parameters
    ----------
    estimator : estimator
        The one whose parameters and classes count.
    net : InnerNet
        Its fitted net.
    X : inputs
        As the user gave them.
    row_format : RowFormat
        That of fit.
    activation : callable
        ``torch.softmax`` or ``torch.log_softmax``.
    """
    rows = read_rows(estimator, X, row_format)
    temperature = temperature_of(estimator)
    dtype = np.float64 if net.criterion_.targets.dtype == torch.float64 else np.float32
    found = np.empty((rows.shape[0], len(estimator.classes_)), dtype=dtype)
    filled = 0
    for logits in net.forward_iter(rows):  # a list of them would splinter the heap
        batch = slice(filled, filled + len(logits))
        found[batch] = activation(logits / temperature, dim=1).numpy()
        filled = batch.stop
    if isinstance(rows, DatasetRows) and not np.isfinite(found).all():
        row = np.flatnonzero(~np.isfinite(found).all(axis=1))[0]
        raise ValueError(f"X must hold finite numbers, got others in row {row} of the Dataset.")
    return found
