"""How given labels come from classes, as MetaLabelNet estimates it when its warm-up ends.

Two tables are counted: given labels by predicted class over the training rows, and predicted
classes by true class over the trusted rows. Class shares follow M. Saerens, P. Latinne,
C. Decaestecker, "Adjusting the Outputs of a Classifier to New a Priori Probabilities", Neural
Computation 14, 2002.
"""

from torch import Tensor

PSEUDO_ROWS = 5.0  # a class, spread over all labels, where a transition is estimated
SHARE_STEPS = 50


def log_transition(counts: Tensor) -> Tensor:
    """Return the log-probability (C, C) of each given label (column) for each class (row).

    From counts (C, C) of rows, with five more a class that are spread over all labels.
    """
    counts = counts + PSEUDO_ROWS / len(counts)
    return (counts / counts.sum(dim=1, keepdim=True)).log()


def class_shares(counts: Tensor, confusion: Tensor) -> Tensor:
    """Return the shares (C,) of the classes among the training rows.

    Half of it are the shares of the given labels, half what explains how often each class is
    predicted, by expectation-maximisation. `confusion` (C, C) counts the predictions (columns) for
    trusted rows of each class (rows), however many there are of each; `counts` (C, C) the given
    labels (columns) of rows predicted as each class (rows).
    """
    n_classes = len(counts)
    if counts.sum() == 0:  # no training row weighs anything
        return counts.new_full((n_classes,), 1 / n_classes)
    given, predicted = counts.sum(dim=0) / counts.sum(), counts.sum(dim=1) / counts.sum()
    likely = (confusion + 1 / n_classes) / (confusion.sum(dim=1, keepdim=True) + 1)
    shares = given
    for _ in range(SHARE_STEPS):
        explained = shares * (likely @ (predicted / (shares @ likely)))
        shares = (given + explained) / 2
    return shares


def class_weights(confusion: Tensor, shares: Tensor) -> Tensor:
    """Return what a trusted row of each class (C,) counts, for the classes to count by `shares`.

    `confusion` (C, C) holds as many rows of each class as there are trusted ones.
    """
    return shares * confusion.sum() / confusion.sum(dim=1).clamp_min(1)


def noise_rate(counts: Tensor, confusion: Tensor, shares: Tensor) -> float:
    """Return an estimate, on the high side, of the share of given labels that are wrong.

    Predictions are right as often as for the trusted rows, weighed by the classes' `shares` (C,),
    plus a standard error; they agree with the given labels as often as `counts` say. What lies
    between is noise, which spreads evenly. 1 where a standard error less would be mere chance.
    Given labels that were learned by heart look right: then it is too low.
    """
    n_rows = confusion.sum(dim=1).clamp_min(1)
    hits = confusion.diag()
    rate = (hits + 1) / (n_rows + 2)  # never quite 0 or 1: its error is not 0 either
    error = (shares.square() * rate * (1 - rate) / n_rows).sum().sqrt()
    accuracy = (shares * hits / n_rows).sum()
    if accuracy - error <= 1 / len(counts) or counts.sum() == 0:
        return 1.0
    right = (accuracy + error).clamp_max(1).item()
    chance = (1 - right) / (len(counts) - 1)
    agree = (counts.diag().sum() / counts.sum()).item()
    return min(1.0, max(0.0, (right - agree) / (right - chance)))


def limit_noise(counts: Tensor, rate: float) -> Tensor:
    """Return counts (C, C) with at most this share off the diagonal, the rows' sums unchanged."""
    wrong = counts - counts.diag().diag()
    share = (wrong.sum() / counts.sum().clamp_min(1e-9)).item()
    if share <= rate:
        return counts
    wrong = wrong * (rate / share)
    return wrong + (counts.sum(dim=1) - wrong.sum(dim=1)).diag()
