"""How given labels come from classes, as estimated when the warm-up ends: from confusion counts.

Two tables are counted: given labels by predicted class over the training rows, and predicted
classes by true class over the trusted rows. Class priors follow M. Saerens, P. Latinne,
C. Decaestecker, "Adjusting the Outputs of a Classifier to New a Priori Probabilities", Neural
Computation 14, 2002.
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

PSEUDO_ROWS = 5.0  # a class, spread over all labels, where a transition is estimated
PRIOR_STEPS = 50


@dataclass(frozen=True)
class NoiseEstimate:
    """The noise of the given labels, as estimated from the confusion counts.

    Attributes
    ----------
    log_transition : Tensor of shape (C, C)
        Log-probability of each given label (column) for each class (row).
    class_weights : Tensor of shape (C,) or None
        What a trusted row of each class counts; None counts them as they are.
    noise_rate : float
        Estimate of the fraction of given labels that are wrong, at most `max_noise_rate`.
    max_noise_rate : float
        The fraction that can be wrong, at most.
    """

    log_transition: Tensor
    class_weights: Tensor | None
    noise_rate: float
    max_noise_rate: float


def estimate_noise(
    counts: Tensor,
    confusion: Tensor,
    neighbor_bound: Callable[[Tensor], float],
    *,
    max_noise_rate: float | str,
    class_prior: str,
) -> NoiseEstimate:
    """Estimate the noise of the given labels.

    Parameters
    ----------
    counts : Tensor of shape (C, C)
        Training rows by predicted class (rows) and given label (columns).
    confusion : Tensor of shape (C, C)
        Trusted rows by class (rows) and predicted class (columns).
    neighbor_bound : callable
        Returns an upper bound of the noise rate, given the class priors (C,); called for
        `max_noise_rate` 'auto'.
    max_noise_rate : 'auto' or float
        The fraction of labels that can be wrong, at most; 'auto' takes the larger of the rate that
        the accuracy on trusted rows implies and the neighbors' bound.
    class_prior : {'estimated', 'trusted'}
        Whether trusted rows count by the estimated priors of the training rows, or as they are.
    """
    priors = class_priors(counts, confusion)
    rate = noise_rate_from_accuracy(counts, confusion, priors)
    if max_noise_rate == "auto":
        max_noise_rate = max(rate, neighbor_bound(priors))
    rate = min(rate, max_noise_rate)
    return NoiseEstimate(
        log_transition(limit_noise(counts, rate)),
        class_weights(confusion, priors) if class_prior == "estimated" else None,
        rate,
        max_noise_rate,
    )


def log_transition(counts: Tensor) -> Tensor:
    """Return the log-probability (C, C) of each given label (column) for each class (row).

    From counts (C, C) of rows, with five more a class that are spread over all labels.
    """
    counts = counts + PSEUDO_ROWS / len(counts)
    return (counts / counts.sum(dim=1, keepdim=True)).log()


def class_priors(counts: Tensor, confusion: Tensor) -> Tensor:
    """Return the priors (C,) of the classes among the training rows.

    Half of it are the fractions of the given labels, half what explains how often each class is
    predicted, by expectation-maximization. `confusion` (C, C) counts the predictions (columns) for
    trusted rows of each class (rows), however many there are of each; `counts` (C, C) the given
    labels (columns) of rows predicted as each class (rows).
    """
    n_classes = len(counts)
    if counts.sum() == 0:  # no training row weighs anything
        return counts.new_full((n_classes,), 1 / n_classes)
    given, predicted = counts.sum(dim=0) / counts.sum(), counts.sum(dim=1) / counts.sum()
    likely = (confusion + 1 / n_classes) / (confusion.sum(dim=1, keepdim=True) + 1)
    priors = given
    for _ in range(PRIOR_STEPS):
        explained = priors * (likely @ (predicted / (priors @ likely)))
        priors = (given + explained) / 2
    return priors


def class_weights(confusion: Tensor, priors: Tensor) -> Tensor:
    """Return what a trusted row of each class (C,) counts, for the classes to count by `priors`.

    `confusion` (C, C) holds as many rows of each class as there are trusted ones.
    """
    return priors * confusion.sum() / confusion.sum(dim=1).clamp_min(1)


def noise_rate_from_accuracy(counts: Tensor, confusion: Tensor, priors: Tensor) -> float:
    """Return an estimate, on the high side, of the fraction of given labels that are wrong.

    Predictions are right as often as for the trusted rows, weighted by the class `priors` (C,),
    plus a standard error; they agree with the given labels as often as `counts` say. The difference
    is noise, which spreads evenly. 1 where a standard error less would be mere chance. Given labels
    that were memorized look right: then it is too low.
    """
    n_rows = confusion.sum(dim=1).clamp_min(1)
    hits = confusion.diag()
    rate = (hits + 1) / (n_rows + 2)  # never quite 0 or 1: its error is not 0 either
    error = (priors.square() * rate * (1 - rate) / n_rows).sum().sqrt()
    accuracy = (priors * hits / n_rows).sum()
    if accuracy - error <= 1 / len(counts) or counts.sum() == 0:
        return 1.0
    right = (accuracy + error).clamp_max(1).item()
    chance = (1 - right) / (len(counts) - 1)
    agree = (counts.diag().sum() / counts.sum()).item()
    return min(1.0, max(0.0, (right - agree) / (right - chance)))


def limit_noise(counts: Tensor, rate: float) -> Tensor:
    """Return counts (C, C) with at most this fraction off the diagonal and the same row sums."""
    wrong = counts - counts.diag().diag()
    fraction = (wrong.sum() / counts.sum().clamp_min(1e-9)).item()
    if fraction <= rate:
        return counts
    wrong = wrong * (rate / fraction)
    return wrong + (counts.sum(dim=1) - wrong.sum(dim=1)).diag()
