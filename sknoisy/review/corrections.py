"""What a reviewer decided: corrected labels, trusted rows, a noise rate with an interval."""

from dataclasses import dataclass
from numbers import Real

import numpy as np

from sknoisy.labels import read_labels
from sknoisy.review.corrections_file import n_samples_of, read_records
from sknoisy.review.interval import Estimate, stratified_estimate
from sknoisy.review.names import dataset_of, index_name, names_of
from sknoisy.row_index import RowIndex


@dataclass(frozen=True)
class Corrections:
    """The decisions of a reviewer on labels, from the export of a page; see `read`.

    Attributes
    ----------
    dataset : str
        The number and the digest of the labels that the page was written for.
    rows : ndarray of shape (m,)
        The numbers of the reviewed rows in X and y.
    given, suggested, labels : list of str of length m
        The label that each had, the one that the page suggested, and the reviewer's.
    index : list of str of length m
        What the frame's index calls each; '' without one.
    origins : list of str of length m
        'issue', 'sample' or 'chosen'.
    strata : list of str of length m
        The stratum of the sample's rows, else ''.
    stratum_sizes : list of int of length m
        How many rows that stratum has, else 0.

    Examples
    --------
    >>> from sknoisy.review import Corrections
    >>> corrections = Corrections.read("corrections.csv")  # doctest: +SKIP
    >>> y_corrected = corrections.apply(y)  # doctest: +SKIP
    >>> clf.fit(X, y_corrected, trusted=corrections.trusted)  # doctest: +SKIP
    """

    dataset: str
    rows: np.ndarray
    given: list
    suggested: list
    labels: list
    index: list
    origins: list
    strata: list
    stratum_sizes: list

    @classmethod
    def read(cls, path) -> "Corrections":
        """Read the CSV or JSON file that a page exported.

        Rows without a decision may be in it, as in the table that `write_page` returns, and other
        columns.

        Raises
        ------
        ValueError
            For a file that is damaged, or contradicts itself: it names record, column and value.
        """
        records = read_records(path)
        return cls(
            records[0]["dataset"],
            np.array([record["row"] for record in records]),
            *(
                [record[name] for record in records]
                for name in (
                    "given",
                    "suggested",
                    "label",
                    "index",
                    "origin",
                    "stratum",
                    "stratum_size",
                )
            ),
        )

    def apply(self, y):
        """Return labels with the reviewer's in place of the given ones.

        Parameters
        ----------
        y : array-like of shape (n_samples,)
            The given labels that the page was written for, in its order.

        Returns
        -------
        labels : as y
            New, of y's own type, with its index; y stays as it is.

        Raises
        ------
        ValueError
            If y holds other labels, or rows in another order, or lacks the reviewer's label.
        """
        names = _names(y)
        self._check_dataset(names)
        self._check_index(y)
        first = {name: k for k, name in reversed(list(enumerate(names)))}
        unknown = [k for k, label in enumerate(self.labels) if label not in first]
        if unknown:
            raise ValueError(
                f"label must be one that y has, {list(first)[:10]}, got"
                f" {self.labels[unknown[0]]!r} for row {self.rows[unknown[0]]}."
            )
        source = np.arange(len(names))
        source[self.rows] = [first[label] for label in self.labels]  # rows that have the label
        return _take(y, source)

    @property
    def trusted(self):
        """The rows (n_samples,) of the sample that were reviewed, as `fit` takes them.

        A mask for `MetaLabelNetClassifier`, to be given with the labels of `apply`. Issues are no
        fair sample, and not in it: see `reviewed`.
        """
        return self._mask([origin == "sample" for origin in self.origins])

    @property
    def reviewed(self):
        """All rows that were reviewed, a mask (n_samples,)."""
        return self._mask([True] * len(self.rows))

    def noise_rate(self, confidence=0.95) -> Estimate:
        """Estimate the fraction of wrong labels in all rows, by those of the sample.

        Parameters
        ----------
        confidence : float in (0, 1), default=0.95
            How often the interval shall hold the true rate.

        Returns
        -------
        estimate : Estimate
            ``rate``, and the interval from ``low`` to ``high``.

        Raises
        ------
        ValueError
            Without reviewed rows of a sample.
        """
        is_wrong = [given != label for given, label in zip(self.given, self.labels, strict=True)]
        return self._estimate(is_wrong, confidence)

    def suggestion_accuracy(self, confidence=0.95) -> Estimate:
        """Estimate how many suggestions are right, of all rows, by those of the sample.

        That is the accuracy of the probabilities that the page was written from: of those that
        `evidence_` has of rows held out, or of `pred_probs`. Parameters as in `noise_rate`.
        """
        is_right = [a == label for a, label in zip(self.suggested, self.labels, strict=True)]
        return self._estimate(is_right, confidence)

    def _mask(self, kept):
        mask = np.zeros(n_samples_of(self.dataset), dtype=bool)
        mask[self.rows[np.array(kept)]] = True
        return mask

    def _estimate(self, counts, confidence) -> Estimate:
        if not isinstance(confidence, Real) or not 0 < confidence < 1:
            raise ValueError(f"confidence must be a number in (0, 1), got {confidence!r}.")
        strata = np.array(self.strata)
        is_sample = np.array(self.origins) == "sample"
        if not is_sample.any():
            raise ValueError(
                "Corrections must hold rows of a sample to estimate from, got"
                f" {len(self.rows)} others; write the page with rows='sample' or 'mixed'."
            )
        members = [is_sample & (strata == name) for name in np.unique(strata[is_sample])]
        return stratified_estimate(
            [np.array(counts)[rows].sum() for rows in members],
            [rows.sum() for rows in members],
            [np.array(self.stratum_sizes)[rows][0] for rows in members],
            n_samples_of(self.dataset),
            confidence,
        )

    def _check_dataset(self, names):
        way_out = "pass the labels that the page was written for"
        n_samples = n_samples_of(self.dataset)
        if len(names) != n_samples:
            raise ValueError(
                f"y must be the labels of data set {self.dataset}, {n_samples} of them, got"
                f" {len(names)}; {way_out}."
            )
        for row, label in zip(self.rows, self.given, strict=True):
            if names[row] != label:
                raise ValueError(
                    f"y must be the labels of data set {self.dataset}, with {label!r} in row"
                    f" {row}, got {names[row]!r}; {way_out}."
                )
        if dataset_of(names) != self.dataset:
            raise ValueError(
                f"y must be the labels of data set {self.dataset}, got {dataset_of(names)}: labels"
                f" of rows that were not reviewed differ; {way_out}."
            )

    def _check_index(self, y):
        row_index = RowIndex.of(y)
        if row_index is None:
            return
        index = row_index.index()
        for row, name in zip(self.rows, self.index, strict=True):
            if name not in ("", index_name(index[row])):
                raise ValueError(
                    f"y must have index {name!r} in row {row}, as the page had, got"
                    f" {index_name(index[row])!r}; pass y in the order of the page."
                )


def _names(y) -> list[str]:
    """Return the names of labels (n,) or (n, 1)."""
    labels = np.asarray(read_labels(y))
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1:
        raise ValueError(f"y must have shape (n_samples,), got {labels.shape}.")
    return names_of(labels)


def _take(y, source):
    """Return rows of y (n,), with the index that y has."""
    if isinstance(y, list | tuple):
        return type(y)(y[k] for k in source)
    if not hasattr(y, "iloc"):
        return y[source]
    taken = y.iloc[source]
    taken.index = y.index
    return taken
