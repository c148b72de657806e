"""A noise model of given labels, fitted to out-of-sample logits: temperature and transition matrix.

``p(given | x) = sum_c softmax(z / T)_c M[c, given]``, by expectation-maximization over the true
class c. Of labels that are a distribution, such as shares of votes, each part is a label of its own
that counts as it weighs. T calibrates the network's confidence (C. Guo, G. Pleiss, Y. Sun,
K. Weinberger, "On Calibration of Modern Neural Networks", ICML 2017) and M is the noise transition
matrix; both must be fitted together, since noise and lack of confidence explain the same
disagreement.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

PSEUDO_ROWS = 2.0  # a class, spread as the pooled noise rate is: a class of few rows fits anything
LEAST_PROBABILITY = 1e-12  # what float32 rounds to 0 must not forbid all classes at once
LOG_TEMPERATURE_SD = 0.5  # else a table that separates its rows gives temperatures near 0
MAX_STEPS, FEWEST_STEPS, TOLERANCE = 500, 20, 1e-6  # of the objective, a row
TEMPERATURE_STEPS = 6  # of Newton, each epoch from where the last one ended
FIRST_RATE = 0.4  # where it starts does not matter, but at 0
CHUNK = 2**17  # probabilities in float64 at once: four times as many leave caches, and take 60 MB
MOST_FITTED = 2**24  # probabilities a step reads: else a million rows of 1,000 classes take hours


@dataclass(frozen=True)
class NoiseModel:
    """What out-of-sample logits tell of given labels.

    Attributes
    ----------
    logits : Tensor of shape (n, C)
        The logits.
    given : Tensor of shape (n,) or (n, C)
        Class numbers, as given, or distributions over the classes.
    temperature : float
        What logits are divided by.
    transition : Tensor of shape (C, C)
        Probability of each given label (column) for each class (row).
    log_likelihood : Tensor of shape (n,)
        Log-probability of each given label under the model, in nats; mean of a distribution.
    joint : Tensor of shape (C, C)
        Expected fraction of the rows of each class (row) with each given label (column).
    known_labels, known_log_likelihood : Tensor of shape (m,) or None
        Class numbers that are known to be right, and their log-probability, in nats.
    known_logits : Tensor of shape (m, C) or None
        The logits of their rows.
    """

    logits: Tensor
    given: Tensor
    temperature: float
    transition: Tensor
    log_likelihood: Tensor
    joint: Tensor
    known_labels: Tensor | None = None
    known_log_likelihood: Tensor | None = None
    known_logits: Tensor | None = None

    @property
    def proba(self) -> Tensor:
        """Calibrated class probabilities (n, C), which have not seen the row's label."""
        proba = self.logits.clone()
        to_proba(proba, self.temperature)
        return proba

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
    log_beta: float, target: float, mean: float, variance: float, expected: float = 0.0
) -> float:
    """Return log(1 / T) after one Newton step on the expected log-likelihood.

    The sums over rows, as they weigh, of the logits' mean under the posterior, the `target`, and of
    mean and variance under the prediction at T. The prior is normal, about the `expected` one.
    """
    beta, precision = math.exp(log_beta), LOG_TEMPERATURE_SD**-2
    slope = beta * (target - mean) - precision * (log_beta - expected)
    step = max(-0.5, min(0.5, slope / (beta**2 * variance + precision)))
    return max(-3.0, min(3.0, log_beta + step))


def moments(p: Tensor, z: Tensor, weights: Tensor) -> Tensor:
    """Return the sums (2,) over rows, as they weigh, of the logits' mean and variance under p."""
    mean = (p * z).sum(dim=1)
    variance = (p * z.square()).sum(dim=1) - mean.square()
    return torch.stack([weights @ mean, weights @ variance])


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
    weights = torch.ones(len(logits)) if weights is None else weights
    weights = weights.to(logits.device, torch.float64)
    target = (weights @ of_labels(logits, labels, centered)).item()
    for _ in range(TEMPERATURE_STEPS):
        sums = _moments_of(logits, weights, log_beta)
        log_beta = newton_step(log_beta, target, *sums, expected)
    losses = -of_labels(logits, labels, lambda part: log_proba(part, log_beta))
    return ((weights @ losses) / weights.sum()).item(), log_beta


def log_proba(logits: Tensor, log_beta: float = 0.0) -> Tensor:
    """Return the log-probabilities (n, C) at a temperature, in float64."""
    return (math.exp(log_beta) * centered(logits)).log_softmax(dim=1)


def of_labels(logits: Tensor, labels: Tensor, function) -> Tensor:
    """Return the mean (n,) under labels, (n,) or (n, C), of a function of logits (n, C).

    ``function(part) -> (m, C)`` in float64, of some rows at a time.
    """
    found = torch.empty(len(logits), dtype=torch.float64, device=logits.device)
    for rows in chunks(logits):
        values, part = function(logits[rows]), labels[rows]
        if labels.ndim == 1:
            found[rows] = values.gather(1, part[:, None])[:, 0]
        else:
            found[rows] = (part * values).sum(dim=1)
    return found


def to_proba(logits: Tensor, temperature: float) -> None:
    """Replace logits (n, C) by the probabilities at a temperature, in the same memory."""
    for rows in chunks(logits):
        logits[rows] = (logits[rows].double() / temperature).softmax(dim=1)


def chunks(table: Tensor) -> Iterator[slice]:
    """Yield slices of the rows of a table (n, C), of about `CHUNK` numbers each."""
    size = max(1, CHUNK // table.shape[1])
    for first in range(0, len(table), size):
        yield slice(first, first + size)


def fitted_rows(logits: Tensor) -> slice | Tensor:
    """Return the rows that a model is fitted to: all, or a sample, see `MOST_FITTED`."""
    n, n_classes = logits.shape
    if n * n_classes <= MOST_FITTED:
        return slice(None)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(0))
    return order[: MOST_FITTED // n_classes]


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
    of_rows = class_shares(known[1], model.class_prior)
    of_rows *= of_rows.sum() / of_rows.square().sum()  # as many as equal weights tell as much by
    _, log_beta = calibrated_loss(*known, of_rows, expected, expected)
    of_known = of_labels(*known, lambda part: log_proba(part, log_beta))
    model = _maximize_expectation(logits, given, weights.double(), log_beta)
    return replace(
        model, known_labels=known[1], known_log_likelihood=of_known, known_logits=known[0]
    )


def class_shares(labels: Tensor, prior: Tensor) -> Tensor:
    """Return what each of some labels (m,) counts, for classes to count by a prior (C,)."""
    return (prior / labels.bincount(minlength=len(prior)))[labels]


def joint_of(model: NoiseModel, given: Tensor, weights: Tensor) -> Tensor:
    """Return the joint fractions (C, C) of classes and other labels (n,) for a model's logits."""
    log_beta = -math.log(model.temperature)
    return _maximize_expectation(model.logits, given, weights.double(), log_beta).joint


def _maximize_expectation(logits, given, weights, log_beta=None) -> NoiseModel:
    """Fit the model; a log(1 / T) that is given stays.

    To a sample of the rows where they have over `MOST_FITTED` probabilities; `joint` is of all.
    """
    is_fixed, log_beta = log_beta is not None, log_beta or 0.0
    n_classes, rows = logits.shape[1], fitted_rows(logits)
    fitted = tuple(part[rows] for part in (logits, given, weights))
    total = fitted[2].sum().item()
    transition, last = spread_noise(FIRST_RATE, n_classes), -math.inf
    for step in range(MAX_STEPS):
        counts, log_likelihood, sums = _expect(*fitted, log_beta, transition)
        rate = max(1 - counts.diag().sum().item() / total, 1e-4)
        prior = PSEUDO_ROWS * spread_noise(rate, n_classes)
        objective = (fitted[2] @ log_likelihood).item()
        objective += (prior * transition.clamp_min(LEAST_PROBABILITY).log()).sum().item()
        if step > FEWEST_STEPS and abs(objective - last) < TOLERANCE * total:
            break
        last = objective
        transition = counts + prior
        transition = transition / transition.sum(dim=1, keepdim=True)
        if not is_fixed:
            target, *of_prediction = sums.tolist()
            log_beta = newton_step(log_beta, target, *of_prediction)
            log_beta = newton_step(log_beta, target, *_moments_of(fitted[0], fitted[2], log_beta))
    if len(fitted[0]) < len(logits):
        counts, log_likelihood, _ = _expect(logits, given, weights, log_beta, transition)
    return NoiseModel(
        logits=logits,
        given=given,
        temperature=math.exp(-log_beta),
        transition=transition,
        log_likelihood=log_likelihood.clamp_min(math.log(LEAST_PROBABILITY)),
        joint=counts / weights.sum(),
    )


def _expect(logits, given, weights, log_beta, transition):
    """Return what all rows tell of the model, chunk by chunk.

    The counts (C, C), class by label, the log-likelihoods (n,), and the sums (3,) that a step of
    the temperature takes.
    """
    expect, counts = expectation_of(given), torch.zeros_like(transition)
    log_likelihood, sums = torch.empty_like(weights), weights.new_zeros(3)
    for rows in chunks(logits):
        z, w = centered(logits[rows]), weights[rows]
        proba = (math.exp(log_beta) * z).softmax(dim=1)
        posterior, log_likelihood[rows], found = expect(proba, transition, given[rows], w)
        counts += found
        sums[0] += w @ (posterior * z).sum(dim=1)
        sums[1:] += moments(proba, z, w)
    return counts, log_likelihood, sums


def _moments_of(logits, weights, log_beta) -> list[float]:
    """Return the `moments` of all rows' predictions at a temperature."""
    sums = weights.new_zeros(2)
    for rows in chunks(logits):
        z = centered(logits[rows])
        sums += moments((math.exp(log_beta) * z).softmax(dim=1), z, weights[rows])
    return sums.tolist()


def expectation_of(given):
    """Return the function for class numbers (n,), or for distributions (n, C)."""
    return _expect_numbers if given.ndim == 1 else _expect_distributions


def _expect_numbers(proba, transition, given, weights):
    """Return the posterior (n, C), the log-likelihood (n,) and the counts (C, C), class by label.

    Of class probabilities (n, C), the transition matrix (C, C), and class numbers (n,).
    """
    joint = proba * transition.T[given]  # (n, C)
    likelihood = joint.sum(dim=1, keepdim=True)
    posterior = joint / likelihood
    of_labels = torch.zeros_like(transition).index_add_(0, given, weights[:, None] * posterior)
    return posterior, likelihood[:, 0].log(), of_labels.T


def _expect_distributions(proba, transition, given, weights):
    """Return the same of distributions (n, C); the posterior is the mean over their labels."""
    given = given.to(proba)
    likelihood = proba @ transition  # (n, C): of each label
    ratio = given / likelihood
    posterior = proba * (ratio @ transition.T)
    log_likelihood = torch.xlogy(given, likelihood).sum(dim=1)
    counts = transition * (proba.T @ (weights[:, None] * ratio))
    return posterior, log_likelihood, counts
