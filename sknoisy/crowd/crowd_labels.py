"""Several people's labels: class probabilities for `fit`, and tables of annotators and rows."""

import numpy as np

from sknoisy.crowd.dawid_skene import dawid_skene
from sknoisy.crowd.equations import confusion_matrices, learn_from_crowd, vote_counts, vote_shares
from sknoisy.crowd.network import network_probabilities
from sknoisy.crowd.statistics import annotator_columns, consensus_columns
from sknoisy.crowd.votes import read_long, read_wide
from sknoisy.row_index import RowIndex
from sknoisy.tables import table


class CrowdLabels:
    """Labels of several annotators, or votes of labelling functions, a row of X each.

    What the classes of the rows are is asked ``by`` one of

    - ``"shares"``: the fraction of a row's votes for each class.
    - ``"dawid_skene"``: the model of Dawid and Skene, of annotators that err by confusion matrices,
      as crowd-kit fits it (``pip install 'sknoisy[crowd]'``). Annotators that vote for one class
      alone tell it nothing: where most votes are theirs, shares are taken, with a warning.
    - a fitted estimator of this library, or a Pipeline or search that ends in one: its
      out-of-sample probabilities, ``evidence_.proba``, are the prior, and annotators' confusion
      matrices and how often they vote for rows of each class are estimated by EM (Raykar et al.).
      Rows without votes have the network's probabilities.
    - out-of-sample probabilities of any classifier, array-like of shape (n_samples, n_classes), in
      the same way, at the temperature by which they foretell the votes best. The columns of a frame
      may have the classes as their names; else they are in the order of `classes`.

    Parameters
    ----------
    votes : array-like of shape (n_samples, n_annotators)
        A column for each annotator: a pandas or polars frame, array, list or tensor of strings,
        integers or booleans. NaN, None, NA and NaT are no votes. Floats must be whole and are read
        as integers.
    classes : array-like of shape (n_classes,) or None
        All classes, where some may have no vote; None: the sorted votes.
    missing : label or None
        Another value that is no vote, such as -1 where labelling functions abstain.

    Attributes
    ----------
    classes : ndarray of shape (n_classes,)
        Sorted, the columns of all probabilities and matrices.
    annotator_names : ndarray of shape (n_annotators,)
        Columns of `votes`, or their numbers.

    Raises
    ------
    ValueError
        If there is no vote, or votes are of several types, or not of `classes`.

    References
    ----------
    V. C. Raykar et al., "Learning From Crowds", JMLR 11, 2010.

    Examples
    --------
    >>> from sknoisy.crowd import CrowdLabels
    >>> crowd = CrowdLabels([["cat", "cat", "dog"], ["dog", None, "dog"]])
    >>> crowd.label_proba().round(2).to_numpy().tolist()
    [[0.67, 0.33], [0.0, 1.0]]
    """

    def __init__(self, votes, *, classes=None, missing=None):
        self._set(read_wide(votes, classes, missing), RowIndex.of(votes))

    @classmethod
    def from_long(cls, rows, annotators, labels, *, index=None, classes=None, missing=None):
        """Read triples of row, annotator and label, as exported by annotation tools.

        Parameters
        ----------
        rows : array-like of shape (n_votes,)
            Positions in X, or labels of `index`.
        annotators, labels : array-like of shape (n_votes,)
            Who votes, and what.
        index : pandas.Index or array-like of shape (n_samples,) or None
            The labels of the rows in the order of X, such as ``X.index`` or ``range(len(X))``;
            None: rows are positions, and the last one with a vote is the last of X.
        classes, missing
            As in the constructor.

        Raises
        ------
        ValueError
            As the constructor, and if an annotator votes twice for a row, or rows are not in
            `index`.
        """
        crowd = cls.__new__(cls)
        found = read_long(rows, annotators, labels, index, classes, missing)
        crowd._set(found, RowIndex.of_index(index))
        return crowd

    def _set(self, found, row_index):
        self._votes, self.classes, self.annotator_names = found
        self._row_index = row_index

    def __repr__(self):
        votes = self._votes
        return (
            f"CrowdLabels({len(votes.rows)} votes of {votes.n_annotators} annotators for"
            f" {votes.n_rows} rows, classes {self.classes.tolist()[:10]})"
        )

    def label_proba(self, by="shares"):
        """Return the probability of each class in each row: what ``fit`` takes as `label_proba`.

        Parameters
        ----------
        by : "shares", "dawid_skene", fitted estimator or array-like
            See the class.

        Returns
        -------
        proba : pandas.DataFrame, or without pandas ndarray, of shape (n_samples, n_classes)
            Columns are `classes`, the index is that of the votes. Rows without votes are NaN by
            shares and Dawid-Skene, which `fit` takes as unlabeled.
        """
        proba = self._proba(by)
        try:
            import pandas as pd
        except ImportError:
            return proba
        index = None if self._row_index is None else self._row_index.index()
        return pd.DataFrame(proba, index=index, columns=self.classes)

    def annotators(self, by="shares"):
        """Estimate how good each annotator is.

        Parameters
        ----------
        by : "shares", "dawid_skene", fitted estimator or array-like
            See the class.

        Returns
        -------
        table : pandas.DataFrame, or structured ndarray without pandas
            A row an annotator, worst first, with its name as the frame's index, or as the field
            ``row``. Without votes all but the last column are missing.

            - ``annotator_quality``: estimated fraction of its votes that are right.
            - ``agreement_with_consensus``: fraction of its votes that are the consensus.
            - ``worst_class``: the class that it recognizes least often, by its confusion matrix.
            - ``worst_class_voted_as``: what it votes most often instead.
            - ``num_examples_labeled``: number of its votes.
        """
        proba = self._proba(by)
        return table(annotator_columns(self._votes, proba, self.classes, self.annotator_names))

    def consensus(self, by="shares"):
        """Return the most probable label of each row.

        Parameters
        ----------
        by : "shares", "dawid_skene", fitted estimator or array-like
            See the class.

        Returns
        -------
        table : pandas.DataFrame, or structured ndarray without pandas
            A row a row of the votes, with their index, or as field ``row`` its position. Rows
            without votes have a consensus by a network alone, otherwise missing values.

            - ``consensus_label``: the most probable class, of equals a random one, always the same.
            - ``consensus_quality_score``: its probability.
            - ``annotator_agreement``: fraction of the row's votes that are the consensus.
            - ``num_annotations``: number of votes.
        """
        columns = consensus_columns(self._votes, self._proba(by), self.classes)
        return table(columns, self._row_index)

    def confusion_matrices(self, by="shares"):
        """Estimate p(vote | class) of each annotator.

        Parameters
        ----------
        by : "shares", "dawid_skene", fitted estimator or array-like
            See the class.

        Returns
        -------
        matrices : ndarray of shape (n_annotators, n_classes, n_classes)
            In the order of `annotator_names`. Entry (i, j) is the probability of the vote j where
            the class is i; rows sum to 1. Two pseudo-votes a class, as of all annotators together,
            stand in for votes that an annotator has not given.
        """
        return confusion_matrices(vote_counts(self._votes, self._proba(by)))

    def _proba(self, by) -> np.ndarray:
        """Return p(class | votes), (n, C), in rows without votes NaN, or the network's."""
        if isinstance(by, str):
            models = {"shares": vote_shares, "dawid_skene": dawid_skene}
            if by not in models:
                raise ValueError(
                    "by must be 'shares', 'dawid_skene', a fitted estimator or probabilities of"
                    f" shape (n_samples, n_classes), got {by!r}."
                )
            return models[by](self._votes)
        prior = network_probabilities(by, self.classes, self._votes, self._row_index)
        return learn_from_crowd(self._votes, prior)
