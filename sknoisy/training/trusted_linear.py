"""A linear model of the trusted rows alone, as a judge of networks.

Labels whose mistakes X foretells, such as those of a simpler model, teach networks these mistakes,
and thousands of them outvote a hundred trusted rows. A linear model of the trusted rows has not
seen them. Where it predicts trusted rows better than the networks, both pooled judge the labels:
the given ones, which misled the networks, are left out, and the method goes on from there.
"""

import math
import warnings
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from sknoisy.training.gains import known_gain, told_apart
from sknoisy.training.noise_model import (
    LEAST_PROBABILITY,
    NoiseModel,
    calibrated_loss,
    chunks,
    fit_noise_model,
    log_proba,
)

SHARES = tuple(k / 10 for k in range(11))  # of the linear model; a hundred rows tell no finer ones
MOST_FOLDS, DRAWS = 5, 5  # of trusted rows; one draw of folds moves the gain by half its error


@dataclass(frozen=True)
class TrustedLinear:
    """A linear model of the trusted rows, compared with networks.

    Attributes
    ----------
    linear : Pipeline
        The model.
    share : float
        Its share in the pool: with 0 the networks predict alone, with 1 the linear model.
    known : tuple of Tensors of shape (m, C) and (m,)
        The pool's log-probabilities of the trusted rows, which have not seen their labels, and
        class numbers.
    gain, gain_error : float
        By how much likelier, in nats, the label of a trusted row is by the linear model than by
        the networks, each at its best temperature, and the standard error.
    """

    linear: object
    share: float
    known: tuple[Tensor, Tensor]
    gain: float
    gain_error: float

    @property
    def is_better(self) -> bool:
        """Whether its gain is told apart from none.

        By less it often is on rows that somebody trusts because their labels looked wrong.
        """
        return told_apart((self.gain, self.gain_error))

    def join(self, X, model: NoiseModel, weights: Tensor, ranks) -> NoiseModel:
        """Return the noise model of the pool; its logits replace those of the networks' model."""

        def write():
            for rows in chunks(model.logits):
                of_nets = log_proba(model.logits[rows], -math.log(model.temperature))
                of_linear = _log(self.linear.predict_proba(X[rows]))
                model.logits[rows] = pooled(of_nets, of_linear, self.share).to(model.logits)

        ranks.once(model.logits, write)
        return fit_noise_model(model.logits, model.given, weights, self.known)


def compare_with_linear(X, trusted, model: NoiseModel, seed: int) -> TrustedLinear | None:
    """Return a linear model of trusted rows, compared with the networks of a noise model.

    Both predict trusted rows that they have not seen.

    Returns
    -------
    TrustedLinear or None
        None where X is no table, or a class has less than two trusted rows.
    """
    known, prior = torch.from_numpy(trusted.labels), model.class_prior
    counts = known.bincount(minlength=len(prior))
    if len(X.shape) != 2 or counts.min() < 2:
        return None
    rows = trusted.X[np.arange(len(known))]
    of_classes = prior * len(known) / counts  # they count by their fractions of all rows
    linear = make_pipeline(
        StandardScaler() if isinstance(rows, np.ndarray) else "passthrough",  # TF-IDF stays
        LogisticRegression(class_weight=dict(enumerate(of_classes.tolist()))),
    )
    of_nets = log_proba(model.known_logits, -math.log(model.temperature))
    of_linear = torch.zeros_like(of_nets)
    of_fit = linear, rows, trusted.labels
    with warnings.catch_warnings(action="ignore"):  # judged as it is, converged or not
        for draw in range(DRAWS):
            n_folds = min(MOST_FOLDS, int(counts.min()))
            folds = StratifiedKFold(n_folds, shuffle=True, random_state=seed + draw)
            proba = cross_val_predict(*of_fit, cv=folds, method="predict_proba")
            of_linear += _log(proba) / DRAWS
        linear.fit(rows, trusted.labels)
    pools = [pooled(of_nets, of_linear, share) for share in SHARES]
    of_pools = [calibrated_loss(pool, known, of_classes[known]) for pool in pools]
    best = int(np.argmin([loss for loss, _ in of_pools]))
    alone = [log_proba(pools[k], of_pools[k][1]).gather(1, known[:, None])[:, 0] for k in (-1, 0)]
    gain = known_gain(alone[0] - alone[1], known, prior)
    return TrustedLinear(linear, SHARES[best], (pools[best], known), *gain)


def pooled(of_nets: Tensor, of_linear: Tensor, share: float) -> Tensor:
    """Return the logarithmic opinion pool (n, C) of log-probabilities, but for a constant a row.

    C. Genest, J. V. Zidek, "Combining Probability Distributions: A Critique and an Annotated
    Bibliography", Statistical Science 1(1), 1986.
    """
    return (1 - share) * of_nets + share * of_linear


def _log(proba: np.ndarray) -> Tensor:
    return torch.from_numpy(proba).clamp_min(LEAST_PROBABILITY).log()
