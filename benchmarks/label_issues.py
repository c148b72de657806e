"""How well wrong labels are found: our scores and tables against cleanlab's.

First, published cross-validated probabilities with votes of five people on the labels: average
precision for the labels that fewer than three of five confirmed, and the precision among as many
rows as there are such labels. Then one fit of each method against cleanlab on 5-fold out-of-sample
probabilities of the same network: F1 of flagged labels, average precision of the label quality
(cleanlab's is the self confidence), the estimated noise rate, how many labels are right once
flagged ones are corrected, and seconds. Last, the seconds of a table of 1,000,000 rows.

    python benchmarks/label_issues.py --data FOLDER
"""

import argparse
from pathlib import Path
from time import perf_counter

import accuracy_sets
import machine
import numpy as np
import torch
from cleanlab.count import estimate_joint
from cleanlab.filter import find_label_issues as theirs
from cleanlab.rank import get_label_quality_scores
from sklearn.metrics import average_precision_score, f1_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict

from sknoisy import ALRClassifier, SyntheticMixClassifier
from sknoisy.confident_learning import label_quality
from sknoisy.issues import find_label_issues, noise_rate

DATA = Path(__file__).parents[2] / "shared" / "data"
SETS = [
    *(("sklearn digits", f"symmetric {rate} %") for rate in (10, 20, 30)),
    *(("sklearn breast_cancer", f"symmetric {rate} %") for rate in (10, 30)),
    ("text youtube, CSR", "symmetric 20 %"),
    *(("cifar10n features", noise) for noise in ("worst", "aggre")),
    ("text semeval, SVD", "weak"),
    ("text yoruba, SVD", "human"),
    ("text sentiment, SVD", "crowd"),
]
THEIRS = ("self_confidence", "normalized_margin")


def voted(folder):
    """Print average precision and precision at the number of errors on probabilities given."""
    print("| set | score | average precision | precision at n errors |\n|---|---|---|---|")
    for name in ("cifar10", "mnist"):
        with np.load(folder / f"{name}_test_label_errors.npz") as z:
            proba, given = z["pred_probs"], z["labels"]
            wrong = np.zeros(len(given), dtype=bool)
            wrong[z["index"][z["votes"][:, 0] < 3]] = True
        scores = {"sknoisy": label_quality(proba, given)}
        scores |= {m: get_label_quality_scores(given, proba, method=m) for m in THEIRS}
        for score, quality in scores.items():
            first = np.argsort(quality, kind="stable")[: wrong.sum()]
            precision = average_precision_score(wrong, -quality)
            print(f"| {name}, {wrong.sum()} errors | {score} | {precision:.4f} |", end=" ")
            print(f"{wrong[first].mean():.3f} |")


def fits(folder, seeds):
    """Print how one fit finds, counts and corrects wrong labels; and cleanlab's of 5 folds."""
    head = "set", "noise", "rate", "from", "F1", "precision", "rate", "right", "seconds"
    print(f"\n| {' | '.join(head)} |\n" + "|---" * len(head) + "|")
    for name, noise in SETS:
        data = accuracy_sets.load(name, folder)
        found = {}
        for seed in range(seeds):
            given = accuracy_sets.noisy_labels(data, noise, seed)
            for find in (ours(ALRClassifier), ours(SyntheticMixClassifier), cleanlabs):
                start = perf_counter()
                issues, quality, rate, labels = find(data.X, given, seed)
                seconds, wrong = perf_counter() - start, given != data.y
                precision = average_precision_score(wrong, -quality)
                row = f1_score(wrong, issues), precision, rate, (labels == data.y).mean()
                found.setdefault(find.__name__, []).append((*row, seconds, wrong.mean()))
        for method, rows in found.items():
            *row, seconds, true = np.mean(rows, axis=0)
            cells = *(f"{x:.3f}" for x in row), f"{seconds:.1f}"
            print(f"| {name} | {noise} | {true:.3f} | {method} | {' | '.join(cells)} |", flush=True)


def ours(method):
    """Return a function that finds issues by one fit of a method."""

    def find(X, given, seed):
        clf = method(random_state=seed).fit(X, given)
        table = clf.label_issues().sort_values("position")
        quality = table["label_quality"].to_numpy()
        return table["is_label_issue"], quality, noise_rate(clf), clf.corrected_labels_

    find.__name__ = method.__name__
    return find


def cleanlabs(X, given, seed):
    """Find issues by cleanlab, on out-of-sample probabilities."""
    proba = out_of_sample(X, given, seed)
    issues, joint = theirs(given, proba, n_jobs=1), estimate_joint(given, proba)
    labels = np.where(issues, proba.argmax(axis=1), given)
    return issues, get_label_quality_scores(given, proba), 1 - joint.trace() / joint.sum(), labels


def out_of_sample(X, given, seed):
    """Return 5-fold probabilities of the default network under plain cross-entropy."""
    plain = ALRClassifier(momentum=1.0, entropy_weight=0.0, evidence=False, random_state=seed)
    folds = StratifiedKFold(5, shuffle=True, random_state=seed)
    return cross_val_predict(plain, X, given, cv=folds, method="predict_proba")


def million():
    """Print the seconds of a table of 1,000,000 rows and 10 classes."""
    rng = np.random.default_rng(0)
    proba = rng.dirichlet(np.ones(10), 1_000_000)
    given = (rng.random((len(proba), 1)) > proba.cumsum(axis=1)).sum(axis=1).clip(max=9)
    start = perf_counter()
    find_label_issues(pred_probs=proba, y=given)
    print(f"\n1,000,000 rows x 10 classes: {perf_counter() - start:.1f} s")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(1)
    print(machine.describe())
    if args.data.is_dir():
        voted(args.data)
        fits(args.data, args.seeds)
    else:
        print(f"No folder {args.data}: the real data sets are left out.")
    million()
