"""What a prediction and a given label together say of a row's class, and by which noise.

A full noise matrix has a rate for each pair of classes. Where few rows tell of them, it takes what
the network confuses for what people mislabel, and overrules labels that are right.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor

from sknoisy.training.noise_model import (
    LEAST_PROBABILITY,
    LOG_BETAS,
    LOG_TEMPERATURE_SD,
    NoiseModel,
    chunks,
    expectation_of,
    fitted_rows,
    log_proba,
    spread_noise,
)


def posterior(proba: Tensor, transition: Tensor, given: Tensor, power: float = 1.0) -> Tensor:
    """Return the probability (n, C) of each class, given a row's prediction and its label.

    Of probabilities (n, C) that have not seen the label, to a power, and labels (n,), or (n, C) of
    which rows of zeros stay zeros.
    """
    expect, found = expectation_of(given), torch.empty_like(proba)
    transition = transition.clamp_min(LEAST_PROBABILITY)
    for rows in chunks(proba):
        p = proba[rows].double().clamp_min(LEAST_PROBABILITY) ** power
        found[rows] = expect(p, transition, given[rows], p.new_ones(len(p)))[0].to(found)
    return found


@dataclass(frozen=True)
class SymmetricNoise:
    """The symmetric noise that suits given labels best.

    Attributes
    ----------
    rate : float
        Its noise rate.
    power : float
        The power of a model's probabilities that goes with it: the model's temperature over that at
        which labels are likeliest.
    is_enough : bool
        Whether labels do not tell the model's matrix from one rate of noise.
    """

    rate: float
    power: float
    is_enough: bool

    def posterior(self, model: NoiseModel) -> Tensor:
        """Return the `posterior` of a model's rows (n, C) by the noise that labels tell of."""
        if not self.is_enough:
            return posterior(model.proba, model.transition, model.given)
        transition = spread_noise(self.rate, len(model.transition))
        return posterior(model.proba, transition, model.given, self.power)


def fit_symmetric_noise(model: NoiseModel, weights: Tensor) -> SymmetricNoise:
    """Fit symmetric noise to the labels of a model, which count as they weigh (n,).

    It is enough, by the criterion of G. Schwarz, "Estimating the Dimension of a Model", The Annals
    of Statistics 6, 1978, unless each further number of the model's matrix makes labels likelier by
    half the logarithm of how many there are. Both are compared at the model's temperature: at its
    own, one rate takes noise that has a structure for lack of confidence.
    """
    rows, n_classes = fitted_rows(model.logits), len(model.transition)
    logits, given, weights = model.logits[rows], model.given[rows], weights[rows].double()
    weights = weights * (weights.sum() / weights.square().sum())  # as many as tell as much
    counts = weights if given.ndim == 1 else (weights[:, None] * given)[given > 0]

    def single_rate(log_beta):
        return _single_rate(_of_given(logits, given, log_beta), counts.numpy(), n_classes)

    log_beta, more = -math.log(model.temperature), n_classes * (n_classes - 1) - 1
    gained = (weights @ model.log_likelihood[rows]).item() - single_rate(log_beta)[0]
    is_enough = gained <= more / 2 * math.log(weights.sum())
    if model.known_labels is None:  # else these have told the temperature

        def loss(value):
            return 0.5 * (value / LOG_TEMPERATURE_SD) ** 2 - single_rate(value)[0]

        log_beta = minimize_scalar(loss, bounds=LOG_BETAS, options={"xatol": 0.01}).x
    power = math.exp(log_beta) * model.temperature
    return SymmetricNoise(single_rate(log_beta)[1], power, is_enough)


def _of_given(logits, given, log_beta) -> np.ndarray:
    """Return the probability of each label that was given, at a temperature."""
    parts = []
    for rows in chunks(logits):
        proba, part = log_proba(logits[rows], log_beta).exp(), given[rows]
        parts.append(proba.gather(1, part[:, None])[:, 0] if part.ndim == 1 else proba[part > 0])
    return torch.cat(parts).numpy()


def _single_rate(proba, counts, n_classes) -> tuple[float, float]:
    """Return the log-likelihood of labels at their likeliest rate of evenly spread noise, and it.

    Of the probabilities (m,) of their classes, and what each counts (m,).
    """

    def loss(rate):
        likelihood = (1 - rate) * proba + rate / (n_classes - 1) * (1 - proba)
        return -counts @ np.log(np.maximum(likelihood, LEAST_PROBABILITY))

    found = minimize_scalar(loss, bounds=(0, 1 - 1 / n_classes))
    return -found.fun, found.x
