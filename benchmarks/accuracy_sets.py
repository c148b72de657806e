"""The sets of benchmarks/accuracy.py: training rows with true labels, test rows, label noise.

scikit-learn's own sets are always there; the others come from the folder that `accuracy.py` is
given, and are left out where a file is missing.
"""

import csv
import gzip
from dataclasses import dataclass, field
from functools import cache, partial

import numpy as np
from sklearn.datasets import load_breast_cancer, load_digits, load_wine
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from sknoisy.noise import instance_dependent_noise, pair_noise, symmetric_noise

TABLES = [
    "churn", "diabetes", "german", "magic", "mushroom", "optdigits", "pendigits", "phoneme",
    "segmentation", "spambase", "splice", "vowel",
]  # fmt: skip
NOMINAL = ["mushroom", "splice"]  # every column is a category: one-hot columns, for all methods
SYNTHETIC = ["symmetric 20 %", "symmetric 40 %", "pair 35 %", "instance 30 %"]
CLEAN = "none"
TEXT_COMPONENTS = 100
TEXT_TERMS = {"SVD": 20_000, "CSR": 5_000}


@dataclass
class Set:
    """Rows and true labels; `given` holds real noisy labels by name."""

    X: object
    y: np.ndarray
    X_test: object
    y_test: np.ndarray
    given: dict = field(default_factory=dict)


def names(folder):
    """Return the pairs (set, noise) that can be run with the files in the folder."""
    pairs = [(f"sklearn {name}", noise) for name in BUILT_IN for noise in SYNTHETIC]
    if folder is None or not folder.is_dir():
        return pairs
    if (folder / "tabular.npz").exists():
        pairs += [(f"table {name}", noise) for name in TABLES for noise in SYNTHETIC]
    if (folder / "cifar10n_features96.npz").exists():
        pairs += [("cifar10n features", noise) for noise in ("worst", "random1", "aggre")]
    for name, file in PIXELS.items():
        if (folder / file[0]).exists() and (folder / file[1]).exists():
            pairs.append((f"pixels {name}", "symmetric 40 %"))
    for name, (file, noise) in TEXTS.items():
        if (folder / file).exists():
            pairs += [(f"text {name}, {form}", noise) for form in ("SVD", "CSR")]
    return pairs


def clean(pairs):
    """Return each set of the pairs once, with its true labels."""
    return [(name, CLEAN) for name in dict.fromkeys(name for name, _ in pairs)]


def noisy_labels(data, noise, seed):
    """Return the labels of a set under a noise."""
    if noise == CLEAN:
        return data.y
    if noise in data.given:
        return data.given[noise]
    kind, rate = noise.split()[0], float(noise.split()[1]) / 100
    if kind == "symmetric":
        return symmetric_noise(data.y, rate, random_state=seed)
    if kind == "pair":
        return pair_noise(data.y, rate, random_state=seed)
    judge = make_pipeline(StandardScaler(with_mean=False), LogisticRegression(max_iter=300))
    folds = StratifiedKFold(5, shuffle=True, random_state=seed)
    proba = cross_val_predict(judge, data.X, data.y, cv=folds, method="predict_proba")
    return instance_dependent_noise(data.y, rate, proba)


@cache
def load(name, folder):
    """Return a set by its name; splits are fixed."""
    kind, _, rest = name.partition(" ")
    if kind == "sklearn":
        return _split(*BUILT_IN[rest](return_X_y=True))
    if kind == "table":
        return _table(folder, rest)
    if kind == "cifar10n":
        return _cifar10n(folder)
    if kind == "pixels":
        return _pixels(folder, *PIXELS[rest])
    text, form = rest.split(", ")
    return _vectorized(*TEXT_LOADERS[text](folder), form)


def _split(X, y):
    X, X_test, y, y_test = train_test_split(X, y, stratify=y, random_state=0)
    return Set(X, y, X_test, y_test)


def _table(folder, name):
    with np.load(folder / "tabular.npz", allow_pickle=True) as tables:
        X, y = tables[f"{name}_X"].astype(np.float32), tables[f"{name}_y"]
    _, first = np.unique(X, axis=0, return_index=True)  # duplicates would leak into the test rows
    first.sort()
    if name in NOMINAL:
        X = OneHotEncoder(sparse_output=False, dtype=np.float32).fit_transform(X)
    return _split(X[first], np.unique(y[first], return_inverse=True)[1])


def _cifar10n(folder):
    with np.load(folder / "cifar10n_features96.npz") as z:
        given = {noise: z[noise] for noise in ("worst", "random1", "aggre")}
        return Set(z["X_train"], z["clean"], z["X_test"], z["y_test"], given)


def _pixels(folder, train, test):
    with np.load(folder / train) as a, np.load(folder / test) as b:
        return Set(
            a["X"].reshape(len(a["X"]), -1).astype(np.float32), a["y"],
            b["X"].reshape(len(b["X"]), -1).astype(np.float32), b["y"],
        )  # fmt: skip


def _read(path):
    with gzip.open(path, "rt", encoding="utf8", newline="") as file:
        return list(csv.DictReader(file))


def _yoruba(folder):
    rows = _read(folder / TEXTS["yoruba"][0])
    train = [row for row in rows if row["split"] == "train"]
    test = [row for row in rows if row["split"] == "test"]
    return train, test, "label", {"human": [row["noisy_label"] for row in train]}, "char_wb"


def _weak(name, folder):
    rows = _read(folder / TEXTS[name][0])
    train, given = [], []
    for row in rows:
        votes = [vote.split(":")[1] for vote in row["weak_labels"].split()]
        if row["split"] == "train" and votes:
            train.append(row)
            given.append(max(sorted(set(votes)), key=votes.count))
    test = [row for row in rows if row["split"] == "test"]
    return train, test, "label", {"weak": given}, "word"


def _sentiment(folder):
    rows = _read(folder / TEXTS["sentiment"][0])
    train = [row for row in rows if row["split"] == "train"]
    test = [row for row in rows if row["split"] != "train"]
    first = [row["answers"].split()[0].split(":")[1] for row in train]
    return train, test, "label", {"crowd": first}, "word"


def _ag_news(folder):
    rows = _read(folder / TEXTS["ag_news"][0])
    for row in rows:
        row["text"] = f"{row['title']} {row['description']}"
    train, test = train_test_split(rows, random_state=0, stratify=[row["label"] for row in rows])
    return train, test, "label", {}, "word"


def _vectorized(train, test, column, given, analyzer, form):
    ngrams = (2, 4) if analyzer == "char_wb" else (1, 2)
    vectorizer = TfidfVectorizer(
        analyzer=analyzer,
        ngram_range=ngrams,
        min_df=2,
        max_features=TEXT_TERMS[form],
        sublinear_tf=True,
    )
    X = vectorizer.fit_transform([row["text"] for row in train]).astype(np.float32)
    X_test = vectorizer.transform([row["text"] for row in test]).astype(np.float32)
    if form == "SVD":
        svd = TruncatedSVD(TEXT_COMPONENTS, random_state=0)
        X, X_test = svd.fit_transform(X), svd.transform(X_test)
    classes = sorted({row[column] for row in train})
    number = {label: k for k, label in enumerate(classes)}

    def encode(labels):
        return np.array([number[label] for label in labels])

    return Set(
        X,
        encode(row[column] for row in train),
        X_test,
        encode(row[column] for row in test),
        {noise: encode(labels) for noise, labels in given.items()},
    )


BUILT_IN = {"digits": load_digits, "breast_cancer": load_breast_cancer, "wine": load_wine}
PIXELS = {
    "fashion_mnist": ("fashion_mnist_train_a.npz", "fashion_mnist_test.npz"),
    "mnist": ("mnist_train.npz", "mnist_test.npz"),
}
TEXTS = {
    "yoruba": ("yoruba_newsclass_noisy.csv.gz", "human"),
    "youtube": ("weak_youtube.csv.gz", "weak"),
    "ag_news": ("ag_news_7600.csv.gz", "symmetric 40 %"),
    "semeval": ("weak_semeval.csv.gz", "weak"),
    "sentiment": ("sentiment_crowd.csv.gz", "crowd"),
}
TEXT_LOADERS = {
    "yoruba": _yoruba,
    "youtube": partial(_weak, "youtube"),
    "ag_news": _ag_news,
    "semeval": partial(_weak, "semeval"),
    "sentiment": _sentiment,
}
