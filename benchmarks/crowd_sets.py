"""The sets of benchmarks/crowd.py: rows with several labels each, by people or by rules.

They come from the folder that `crowd.py` is given, and are left out where a file is missing.
"""

from dataclasses import dataclass
from functools import cache, partial

import accuracy_sets
import numpy as np
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

TEXT_COMPONENTS, TEXT_TERMS = 200, 20_000


@dataclass
class Crowd:
    """Training rows with votes, and test rows; labels are class numbers.

    Attributes
    ----------
    votes : ndarray of shape (n_samples, n_annotators)
        Each annotator's label of each row; NaN where there is none.
    y : ndarray of shape (n_samples,)
        True labels of the training rows, which no method sees.
    """

    X: np.ndarray
    votes: np.ndarray
    y: np.ndarray
    X_test: np.ndarray
    y_test: np.ndarray

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        return 1 + int(np.nanmax(self.votes))


def names(folder):
    """Return the names of the sets whose file is in the folder."""
    return [name for name, (file, _) in SETS.items() if (folder / file).exists()]


@cache
def load(name, folder):
    """Return a set by its name; the split is that of its file."""
    file, read = SETS[name]
    return read(folder / file)


def _cifar10n(path):
    with np.load(path) as z:
        votes = np.stack([z[f"random{k}"] for k in (1, 2, 3)], axis=1).astype(float)
        X, X_test = z["X_train"].astype(np.float32), z["X_test"].astype(np.float32)
        return Crowd(X, votes, z["clean"], X_test, z["y_test"])


def _text(path, column):
    rows = accuracy_sets._read(path)
    train = [row for row in rows if row["split"] == "train"]
    test = [row for row in rows if row["split"] == "test"]
    terms = TfidfVectorizer(
        ngram_range=(1, 2), min_df=2, max_features=TEXT_TERMS, sublinear_tf=True, dtype=np.float32
    )
    svd = TruncatedSVD(TEXT_COMPONENTS, random_state=0)
    features = make_pipeline(terms, svd, StandardScaler())
    X = features.fit_transform([row["text"] for row in train])
    X_test = features.transform([row["text"] for row in test])
    y, y_test = (np.array([int(row["label"]) for row in part]) for part in (train, test))
    return Crowd(X, _votes([row[column] for row in train]), y, X_test, y_test)


def _votes(cells):
    """Return the table of votes (n, annotators) from cells "annotator:label annotator:label"."""
    long = [(row, *vote.split(":")) for row, cell in enumerate(cells) for vote in cell.split()]
    rows, annotators, labels = zip(*long, strict=True)
    _, columns = np.unique(np.array(annotators, dtype=int), return_inverse=True)
    votes = np.full((len(cells), columns.max() + 1), np.nan)
    votes[list(rows), columns] = np.array(labels, dtype=int)
    return votes


SETS = {
    "sentiment": ("sentiment_crowd.csv.gz", partial(_text, column="answers")),
    "cifar10n": ("cifar10n_features96.npz", _cifar10n),
    "youtube": ("weak_youtube.csv.gz", partial(_text, column="weak_labels")),
    "semeval": ("weak_semeval.csv.gz", partial(_text, column="weak_labels")),
}
