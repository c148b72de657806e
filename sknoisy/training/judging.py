"""What a prediction and a given label together say of a row's class, and by which noise.

A full noise matrix has a rate for each pair of classes. Where few rows tell of them, it takes what
the network confuses for what people mislabel, and overrules labels that are right.
"""

import math

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor

from sknoisy.training.noise_model import (
    LEAST_PROBABILITY,
    NoiseModel,
    chunks,
    expectation_of,
    fitted_rows,
    log_proba,
)


def posterior(proba: Tensor, transition: Tensor, given: Tensor) -> Tensor:
    """Return the probability (n, C) of each class, given a row's prediction and its label.

    Of probabilities (n, C) that have not seen the label, and labels (n,), or (n, C) of which rows
    of zeros stay zeros.
    """
    expect, found = expectation_of(given), torch.empty_like(proba)
    transition = transition.clamp_min(LEAST_PROBABILITY)
    for rows in chunks(proba):
        p = proba[rows].double().clamp_min(LEAST_PROBABILITY)
        found[rows] = expect(p, transition, given[rows], p.new_ones(len(p)))[0].to(found)
    return found


def fit_symmetric_noise(model: NoiseModel, weights: Tensor) -> tuple[float, bool]:
    """Return the rate of the symmetric noise that suits labels best, and whether it is enough.

    They are a model's labels, and count as they weigh (n,). It is enough unless each further number
    of the model's matrix makes labels likelier by half the logarithm of how many there are: the
    criterion of G. Schwarz, "Estimating the Dimension of a Model", The Annals of Statistics 6,
    1978. It keeps the model's temperature: at its own, one rate takes noise that has a structure
    for lack of confidence, and corrects nothing.
    """
    rows, n_classes = fitted_rows(model.logits), len(model.transition)
    weights = weights[rows].double()
    weights = weights * (weights.sum() / weights.square().sum())  # as many as tell as much
    proba, counts = _of_given(model, rows, weights)

    def loss(rate):
        likelihood = (1 - rate) * proba + rate / (n_classes - 1) * (1 - proba)
        return -counts @ np.log(np.maximum(likelihood, LEAST_PROBABILITY))

    found = minimize_scalar(loss, bounds=(0, 1 - 1 / n_classes))
    gained = (weights @ model.log_likelihood[rows]).item() + found.fun
    needed = (n_classes * (n_classes - 1) - 1) / 2 * math.log(1 + weights.sum())
    return float(found.x), bool(gained <= needed)


def _of_given(model, rows, weights):
    """Return the calibrated probability of each label that was given, and what it counts."""
    logits, given = model.logits[rows], model.given[rows]
    log_beta, parts = -math.log(model.temperature), []
    for part in chunks(logits):
        proba, labels = log_proba(logits[part], log_beta).exp(), given[part]
        if labels.ndim == 1:
            parts.append((proba.gather(1, labels[:, None])[:, 0], weights[part]))
        else:
            counted = labels > 0
            parts.append((proba[counted], (weights[part, None] * labels)[counted]))
    return [torch.cat(values).numpy() for values in zip(*parts, strict=True)]
