"""How many trusted rows, and which: MetaLabelNetClassifier beside what makes do without it.

Test accuracy (%) and log loss (nats), mean over seeds, of MetaLabelNetClassifier with 1 to 300
trusted rows: as many of each class ("classes"), drawn at random ("random"), from two classes alone
("two"), or, of the rows whose given label an ALRClassifier doubts most, the first ("doubted"), as a
reviewer would have them. Beside it ALRClassifier, which is told none, and logistic regression on
the trusted rows alone.

    python benchmarks/trusted_rows.py [--data FOLDER] [--seeds 2] [--counts 1 10 100]

scikit-learn's sets are always there; the others come from FOLDER, see accuracy_sets.py.
"""

import argparse
import warnings
from pathlib import Path

import accuracy_sets
import machine
import numpy as np
import torch
from accuracy import measures
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sknoisy import ALRClassifier, MetaLabelNetClassifier

PAIRS = [
    ("sklearn digits", "symmetric 40 %"),
    ("sklearn digits", "pair 35 %"),
    ("text semeval, SVD", "weak"),
    ("text youtube, SVD", "weak"),
]
COUNTS = [1, 3, 10, 30, 100, 300]
WAYS = ["classes", "random", "two", "doubted"]


def choose(way, count, y, doubt, seed):
    """Return a mask of trusted rows; `doubt` (n,) orders the rows, the most doubtful first."""
    rng = np.random.default_rng(seed)
    if way == "doubted":
        order = doubt
    elif way == "classes":
        place = np.empty(len(y))
        for label in np.unique(y):
            rows = np.flatnonzero(y == label)
            place[rows] = rng.permutation(len(rows)) + rng.random(len(rows))
        order = place.argsort()
    else:
        order = rng.permutation(len(y))
        if way == "two":
            common = np.unique(y, return_counts=True)
            order = order[np.isin(y[order], common[0][common[1].argsort()[-2:]])]
    mask = np.zeros(len(y), dtype=bool)
    mask[order[:count]] = True
    return mask


def linear(X, y, X_test, y_test):
    """Return the measures of logistic regression; of one class alone nothing can be learned."""
    if len(np.unique(y)) < 2:
        return np.full(3, np.nan)
    clf = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(X, y)
    return measures(clf.predict_proba(X_test), clf.classes_, y_test)


def main(data, seeds, counts):
    print(machine.describe())
    print(f"Accuracy, % / log loss, mean of {seeds} seeds\n")
    print("| set | noise | ALRClassifier | trusted | chosen | MetaLabelNetClassifier | linear |")
    print("|---|---|---|---|---|---|---|")
    for name, noise in PAIRS:
        if not name.startswith("sklearn") and data is None:
            continue
        loaded = accuracy_sets.load(name, data)
        X, y, test = loaded.X, np.asarray(loaded.y), (loaded.X_test, loaded.y_test)
        noisy = [accuracy_sets.noisy_labels(loaded, noise, seed) for seed in range(seeds)]
        fits = [ALRClassifier(random_state=s).fit(X, given) for s, given in enumerate(noisy)]
        alr = [measures(clf.predict_proba(test[0]), clf.classes_, test[1]) for clf in fits]
        doubts = [clf.label_issues().position.to_numpy() for clf in fits]
        for count in counts:
            for way in WAYS:
                found = []
                for seed, (given, doubt) in enumerate(zip(noisy, doubts, strict=True)):
                    mask = choose(way, count, y, doubt, seed)
                    clf = MetaLabelNetClassifier(random_state=seed)
                    clf.fit(X, np.where(mask, y, given), trusted=mask)
                    ours = measures(clf.predict_proba(test[0]), clf.classes_, test[1])
                    found.append([ours, linear(X[mask], y[mask], *test)])
                ours, alone = np.mean(found, axis=0)
                cells = [f"{m[0]:.1f} / {m[1]:.2f}" for m in (np.mean(alr, axis=0), ours, alone)]
                cells = [name, noise, cells[0], f"{count}", way, *cells[1:]]
                print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=None)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--counts", type=int, nargs="+", default=COUNTS)
    main(**vars(parser.parse_args()))
