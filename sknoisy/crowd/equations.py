"""Classes and annotators from votes: shares, confusion matrices, and EM with a network's prior.

V. C. Raykar et al., "Learning From Crowds", JMLR 11, 2010, section 3 for several classes: the
prior of a row's class is a classifier's, and annotators err by confusion matrices. Two deviations:
the classifier is fitted before, and its probabilities are out-of-sample; and an annotator may vote
more often for rows of one class, as labelling functions do. That a vote is cast is then evidence;
that one is not is none, as in snorkel's model: counted, it made labelling functions' labels worse.
"""

import numpy as np

# Votes for rows of each class that an annotator has in advance, as those of all together. Without
# them a class that it has not met is 0 / 0, and one met once it always or never recognizes.
PSEUDO_VOTES = 2.0
LEAST_PROBABILITY = 1e-3  # without it one vote, or the network, forbids a class
MAX_ITERATIONS = 100
TOLERANCE = 1e-4  # of the largest change of a probability


def vote_shares(votes) -> np.ndarray:
    """Return the fraction (n, C) of a row's votes for each class, NaN in rows without votes."""
    cells = votes.rows * votes.n_classes + votes.labels
    counts = np.bincount(cells, minlength=votes.n_rows * votes.n_classes)
    counts = counts.reshape(votes.n_rows, votes.n_classes).astype(float)
    total = counts.sum(axis=1, keepdims=True)
    return np.where(total > 0, counts / np.maximum(total, 1), np.nan)


def vote_counts(votes, proba) -> np.ndarray:
    """Return the expected number (A, C, C) of votes by annotator, class of the row and vote.

    Rows without a probability count nothing.
    """
    shape = votes.n_annotators, votes.n_classes
    cells = votes.annotators * votes.n_classes + votes.labels
    weights = np.nan_to_num(proba)[votes.rows].T  # (C, n_votes)
    counts = [np.bincount(cells, w, minlength=shape[0] * shape[1]).reshape(shape) for w in weights]
    return np.stack(counts, axis=1)


def confusion_matrices(counts) -> np.ndarray:
    """Estimate p(vote | class), float64 (A, C, C), rows sum to 1, from counts of votes.

    A class that no row belongs to counts as always recognized.
    """
    pooled = counts.sum(axis=0)  # (C, C)
    pooled = pooled + np.diag(pooled.sum(axis=1) == 0)
    pooled = pooled / pooled.sum(axis=1, keepdims=True)
    counts = counts + PSEUDO_VOTES * pooled
    return counts / counts.sum(axis=2, keepdims=True)


def vote_rates(counts, class_sizes) -> np.ndarray:
    """Estimate how often an annotator votes for rows of a class, (A, C), relative to all rows.

    1 for one that picks its rows without regard to their class. A labelling function that votes for
    one class alone has p(vote | class) = 1 for every class: only its rates tell of the class.
    """
    given = counts.sum(axis=2)  # (A, C)
    expected = given.sum(axis=1, keepdims=True) * class_sizes / class_sizes.sum()
    return (given + PSEUDO_VOTES) / (expected + PSEUDO_VOTES)


def posterior(votes, prior, likelihood) -> np.ndarray:
    """Return p(class | votes), (n, C), of a prior (n, C) and p(vote | class), (A, C, C)."""
    log_likelihood = np.log(np.maximum(likelihood, LEAST_PROBABILITY))
    of_votes = log_likelihood[votes.annotators, :, votes.labels]  # (n_votes, C)
    logits = np.log(np.maximum(prior, LEAST_PROBABILITY))
    for k, of_class in enumerate(of_votes.T):
        logits[:, k] += np.bincount(votes.rows, of_class, minlength=votes.n_rows)
    proba = np.exp(logits - logits.max(axis=1, keepdims=True))
    return proba / proba.sum(axis=1, keepdims=True)


def learn_from_crowd(votes, prior) -> np.ndarray:
    """Return p(class | votes), (n, C), by EM: the prior (n, C) stays, matrices are estimated.

    It begins with the shares of votes: from the prior it could end where a class that annotators
    agree on is another one's.
    """
    shares = vote_shares(votes)
    proba = np.where(np.isnan(shares), prior, shares)
    for _ in range(MAX_ITERATIONS):
        counts = vote_counts(votes, proba)
        rates = vote_rates(counts, proba.sum(axis=0))
        previous = proba
        proba = posterior(votes, prior, confusion_matrices(counts) * rates[:, :, None])
        if abs(proba - previous).max() < TOLERANCE:
            break
    return proba
