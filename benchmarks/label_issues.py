"""How well wrong labels are found: our scores and soft labels against cleanlab's.

First, published cross-validated probabilities with votes of five people on the labels: average
precision for the labels that fewer than three of five confirmed, and the precision among as many
rows as there are such labels. Then CIFAR-10N features: one fit's soft labels against cleanlab's
scores on 5-fold out-of-sample probabilities of the same network, and the seconds of both. Last,
the seconds of a table of 1,000,000 rows.

    python benchmarks/label_issues.py --data FOLDER
"""

import argparse
from pathlib import Path
from statistics import median
from time import perf_counter

import machine
import numpy as np
import torch
from cleanlab.rank import get_label_quality_scores
from sklearn.metrics import average_precision_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict

from sknoisy import ALRClassifier, SyntheticMixClassifier
from sknoisy.issues import find_label_issues, label_quality

DATA = Path(__file__).parents[2] / "shared" / "data"
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


def features(folder, seeds):
    """Print the area under the precision-recall curve, and seconds, on CIFAR-10N features."""
    with np.load(folder / "cifar10n_features96.npz") as z:
        X, true, labels = z["X_train"], z["clean"], {k: z[k] for k in ("worst", "aggre")}
    print("\n| labels | from | average precision | seconds |\n|---|---|---|---|")
    for noise, given in labels.items():
        rows = {}
        for seed in range(seeds):
            for method in (ALRClassifier, SyntheticMixClassifier):
                start = perf_counter()
                clf = method(random_state=seed).fit(X, given)
                quality = label_quality(clf.soft_labels_, given)
                name = f"soft labels of {method.__name__}, one fit"
                rows.setdefault(name, []).append((quality, perf_counter() - start))
            start = perf_counter()
            plain = ALRClassifier(momentum=1.0, entropy_weight=0.0, random_state=seed)
            folds = StratifiedKFold(5, shuffle=True, random_state=seed)
            proba = cross_val_predict(plain, X, given, cv=folds, method="predict_proba")
            seconds = perf_counter() - start
            for score in THEIRS:
                quality = get_label_quality_scores(given, proba, method=score)
                rows.setdefault(f"cleanlab, {score}, 5 folds", []).append((quality, seconds))
        for name, runs in rows.items():
            area = np.mean([average_precision_score(given != true, -q) for q, _ in runs])
            print(f"| {noise} | {name} | {area:.3f} | {median(s for _, s in runs):.1f} |")


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
        features(args.data, args.seeds)
    else:
        print(f"No folder {args.data}: the real data sets are left out.")
    million()
