"""Dawid and Skene's model of annotators, as crowd-kit fits it."""

import warnings

import numpy as np

from sknoisy.crowd.equations import vote_shares
from sknoisy.user_warnings import warn


def dawid_skene(votes) -> np.ndarray:
    """Return p(class | votes), (n, C), NaN in rows without votes; classes without votes are 0.

    Shares of votes where most votes tell the model nothing, with a warning: it would believe one
    class of all rows.

    A. P. Dawid, A. M. Skene, "Maximum Likelihood Estimation of Observer Error-Rates Using the EM
    Algorithm", Applied Statistics 28, 1979.
    """
    try:
        import pandas as pd
        from crowdkit.aggregation import DawidSkene
    except ImportError as error:
        raise ImportError(
            "by='dawid_skene' needs crowd-kit and pandas: pip install 'sknoisy[crowd]'."
        ) from error
    if _is_blind(votes):
        return vote_shares(votes)
    triples = pd.DataFrame({"task": votes.rows, "worker": votes.annotators, "label": votes.labels})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # crowd-kit meets what pandas will change
        found = DawidSkene().fit_predict_proba(triples)
    proba = np.full((votes.n_rows, votes.n_classes), np.nan)
    rows = found.index.to_numpy()
    proba[rows] = 0
    proba[np.ix_(rows, found.columns.to_numpy())] = found.to_numpy()
    return proba


def _is_blind(votes) -> bool:
    """Return whether most votes are by annotators that vote for one class alone, with a warning."""
    is_used = np.zeros((votes.n_annotators, votes.n_classes), dtype=bool)
    is_used[votes.annotators, votes.labels] = True
    share = (is_used.sum(axis=1) == 1)[votes.annotators].mean()
    is_blind = share > 0.5 and votes.n_classes > 1
    if is_blind:
        warn(
            f"{share:.0%} of the votes are by annotators that vote for one class alone, as those of"
            " labelling functions. To Dawid-Skene, which learns from what annotators vote and not"
            " from when they abstain, these tell nothing: shares of votes are taken instead. Use"
            " by='shares', or a fitted estimator."
        )
    return is_blind
