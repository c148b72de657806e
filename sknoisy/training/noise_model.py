"""A noise model of given labels, fitted to out-of-sample logits: temperature and transition matrix.

``p(given | x) = sum_c softmax(z / T)_c M[c, given]``, by expectation-maximization over the true
class c. Of labels that are a distribution, such as shares of votes, each part is a label of its own
that counts as it weighs. T calibrates the network's confidence (C. Guo, G. Pleiss, Y. Sun,
K. Weinberger, "On Calibration of Modern Neural Networks", ICML 2017) and M is the noise transition
matrix; both must be fitted together, since noise and lack of confidence explain the same
disagreement.
"""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

PSEUDO_ROWS = 2.0  # a class, spread as the pooled noise rate is: a class of few rows fits anything
LOG_TEMPERATURE_SD = 0.5  # else a table that separates its rows gives temperatures near 0
MAX_STEPS, FEWEST_STEPS, TOLERANCE = 500, 20, 1e-6  # of the objective, a row
TEMPERATURE_STEPS = 6  # of Newton, each epoch from where the last one ended
FIRST_RATE = 0.4  # where it starts does not matter, but at 0


@dataclass(frozen=True)
class NoiseModel:
    """What out-of-sample logits tell of given labels.

    Attributes
    ----------
    logits : Tensor of shape (n, C)
        The logits, in float64.
    temperature : float
        What logits are divided by.
    transition : Tensor of shape (C, C)
        Probability of each given label (column) for each class (row).
    posterior : Tensor of shape (n, C)
        Probability of each class for each row, its given label included.
    log_likelihood : Tensor of shape (n,)
        Log-probability of each given label under the model, in nats; mean of a distribution.
    joint : Tensor of shape (C, C)
        Expected fraction of the rows of each class (row) with each given label (column).
    known_labels, known_log_likelihood : Tensor of shape (m,) or None
        Class numbers that are known to be right, and their log-probability, in nats.
    """

    logits: Tensor
    temperature: float
    transition: Tensor
    posterior: Tensor
    log_likelihood: Tensor
    joint: Tensor
    known_labels: Tensor | None = None
    known_log_likelihood: Tensor | None = None

    @property
    def proba(self) -> Tensor:
        """Calibrated class probabilities (n, C), which have not seen the row's label."""
        return (self.logits / self.temperature).softmax(dim=1)

    @property
    def class_prior(self) -> Tensor:
        """Estimated fraction of the rows of each class (C,)."""
        return self.joint.sum(dim=1)

    @property
    def noise_rate(self) -> float:
        """Expected fraction of wrong given labels."""
        return 1 - self.joint.trace().item()


def spread_noise(rate: float, n_classes: int) -> Tensor:
    """Return the transition matrix (C, C) of a noise rate that spreads evenly."""
    eye = torch.eye(n_classes, dtype=torch.float64)
    return (1 - rate) * eye + rate / (n_classes - 1) * (1 - eye)


def newton_step(
    log_beta: float, z: Tensor, posterior: Tensor, weights: Tensor, expected: float = 0.0
) -> float:
    """Return log(1 / T) after one Newton step on the expected log-likelihood.

    Its prior is normal, about the `expected` one.
    """
    beta = math.exp(log_beta)
    p = (beta * z).softmax(dim=1)
    mean = (p * z).sum(dim=1)
    variance = (p * z.square()).sum(dim=1) - mean.square()
    precision = LOG_TEMPERATURE_SD**-2
    slope = beta * (weights * ((posterior * z).sum(dim=1) - mean)).sum().item()
    slope -= precision * (log_beta - expected)
    curvature = beta**2 * (weights * variance).sum().item() + precision
    step = max(-0.5, min(0.5, slope / curvature))
    return max(-3.0, min(3.0, log_beta + step))


def calibrated_loss(
    logits: Tensor,
    labels: Tensor,
    weights: Tensor | None = None,
    log_beta: float = 0.0,
    expected: float = 0.0,
) -> tuple[float, float]:
    """Return the cross-entropy of labels at the temperature that suits them best, in nats.

    Labels are class numbers (n,), or distributions (n, C), as the logits are. And ``log(1 / T)``,
    from where the next search may begin.
    """
    z = centered(logits)
    weights = z.new_ones(len(z)) if weights is None else weights.to(z)
    table = labels.to(z)
    if labels.ndim == 1:
        table = torch.eye(z.shape[1], dtype=z.dtype, device=z.device)[labels]
    for _ in range(TEMPERATURE_STEPS):
        log_beta = newton_step(log_beta, z, table, weights, expected)
    losses = -(table * (math.exp(log_beta) * z).log_softmax(dim=1)).sum(dim=1)
    return ((weights * losses).sum() / weights.sum()).item(), log_beta


def centered(logits: Tensor) -> Tensor:
    """Return logits (n, C) in float64 with rows of mean 0, which changes no probability."""
    z = logits.double()
    return z - z.mean(dim=1, keepdim=True)


def fit_noise_model(
    logits: Tensor,
    given: Tensor,
    weights: Tensor | None = None,
    known: tuple[Tensor, Tensor] | None = None,
) -> NoiseModel:
    """Fit the model to logits (n, C) of rows that their network was not trained on.

    Parameters
    ----------
    logits : Tensor of shape (n, C)
        Out-of-sample logits.
    given : Tensor of shape (n,) or (n, C)
        Class numbers, as given, or distributions over the classes.
    weights : Tensor of shape (n,) or None, default=None
        What each row counts.
    known : tuple of Tensors of shape (m, C) and (m,), or None, default=None
        Out-of-sample logits and class numbers of rows whose labels are right. What given labels
        tell of the temperature is then no more than where theirs is expected.
    """
    weights = torch.ones(len(logits)) if weights is None else weights
    model = _maximize_expectation(logits, given, weights.double())
    if known is None or len(known[1]) == 0:
        return model
    expected = -math.log(model.temperature)
    _, log_beta = calibrated_loss(*known, log_beta=expected, expected=expected)
    log_p = (math.exp(log_beta) * centered(known[0])).log_softmax(dim=1)
    of_known = log_p[torch.arange(len(log_p)), known[1]]
    model = _maximize_expectation(logits, given, weights.double(), log_beta)
    return replace(model, known_labels=known[1], known_log_likelihood=of_known)


def joint_of(model: NoiseModel, given: Tensor, weights: Tensor) -> Tensor:
    """Return the joint fractions (C, C) of classes and other labels (n,) for a model's logits."""
    log_beta = -math.log(model.temperature)
    return _maximize_expectation(model.logits, given, weights.double(), log_beta).joint


def _maximize_expectation(logits, given, weights, log_beta=None) -> NoiseModel:
    """Fit the model; a log(1 / T) that is given stays."""
    z = centered(logits)
    n_classes, total = z.shape[1], weights.sum().item()
    expect = _expect_numbers if given.ndim == 1 else _expect_distributions
    is_fixed, log_beta = log_beta is not None, log_beta or 0.0
    transition, last = spread_noise(FIRST_RATE, n_classes), -math.inf
    for step in range(MAX_STEPS):
        proba = (math.exp(log_beta) * z).softmax(dim=1)
        posterior, log_likelihood, counts = expect(proba, transition, given, weights)
        rate = max(1 - counts.diag().sum().item() / total, 1e-4)
        prior = PSEUDO_ROWS * spread_noise(rate, n_classes)
        objective = (weights * log_likelihood).sum().item()
        objective += (prior * transition.clamp_min(1e-12).log()).sum().item()
        if step > FEWEST_STEPS and abs(objective - last) < TOLERANCE * total:
            break
        last = objective
        transition = counts + prior
        transition = transition / transition.sum(dim=1, keepdim=True)
        for _ in range(0 if is_fixed else 2):
            log_beta = newton_step(log_beta, z, posterior, weights)
    return NoiseModel(
        logits=logits.double(),
        temperature=math.exp(-log_beta),
        transition=transition,
        posterior=posterior,
        log_likelihood=log_likelihood.clamp_min(math.log(1e-12)),
        joint=counts / total,
    )


def _expect_numbers(proba, transition, given, weights):
    """Return the posterior (n, C), the log-likelihood (n,) and the counts (C, C), class by label.

    Of class probabilities (n, C), the transition matrix (C, C), and class numbers (n,).
    """
    joint = proba * transition.T[given]  # (n, C)
    likelihood = joint.sum(dim=1, keepdim=True)
    posterior = joint / likelihood
    weighted = weights[:, None] * torch.eye(proba.shape[1], dtype=proba.dtype)[given]
    return posterior, likelihood[:, 0].log(), posterior.T @ weighted


def _expect_distributions(proba, transition, given, weights):
    """Return the same of distributions (n, C); the posterior is the mean over their labels."""
    likelihood = proba @ transition  # (n, C): of each label
    ratio = given / likelihood
    posterior = proba * (ratio @ transition.T)
    log_likelihood = torch.xlogy(given, likelihood).sum(dim=1)
    counts = transition * (proba.T @ (weights[:, None] * ratio))
    return posterior, log_likelihood, counts
