"""How well wrong labels are found: our scores and tables against cleanlab's.

First, published cross-validated probabilities with votes of five people on the labels: average
precision for the labels that fewer than three of five confirmed, and the precision among as many
rows as there are such labels. Then CIFAR-10N features: one fit's table against cleanlab's
scores on 5-fold out-of-sample probabilities of the same network, and the seconds of both. Then the
F1 of flagged labels, the estimated noise rate and how many labels are right once they are
corrected, ours of one fit against cleanlab's, whose flagged labels become the most probable ones.
Last, the seconds of a table of 1,000,000 rows.

    python benchmarks/label_issues.py --data FOLDER
"""

import argparse
from pathlib import Path
from statistics import median
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
FLAGGED = [
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
                quality = clf.label_issues().sort_values("position")["label_quality"].to_numpy()
                name = f"label_issues() of {method.__name__}, one fit"
                rows.setdefault(name, []).append((quality, perf_counter() - start))
            start = perf_counter()
            proba = out_of_sample(X, given, seed)
            seconds = perf_counter() - start
            for score in THEIRS:
                quality = get_label_quality_scores(given, proba, method=score)
                rows.setdefault(f"cleanlab, {score}, 5 folds", []).append((quality, seconds))
        for name, runs in rows.items():
            area = np.mean([average_precision_score(given != true, -q) for q, _ in runs])
            print(f"| {noise} | {name} | {area:.3f} | {median(s for _, s in runs):.1f} |")


def flags(folder, seeds):
    """Print F1 of ``is_label_issue``, noise rates, labels right; and cleanlab's of 5 folds."""
    head = "set", "noise", "rate", "from", "F1 of issues", "estimated rate", "right, corrected"
    print(f"\n| {' | '.join(head)} |\n" + "|---" * len(head) + "|")
    for name, noise in FLAGGED:
        data = accuracy_sets.load(name, folder)
        found = {}
        for seed in range(seeds):
            given = accuracy_sets.noisy_labels(data, noise, seed)
            wrong = given != data.y
            for method in (ALRClassifier, SyntheticMixClassifier):
                clf = method(random_state=seed).fit(data.X, given)
                issues = clf.label_issues().sort_values("position")["is_label_issue"]
                right = (clf.corrected_labels_ == data.y).mean()
                row = f1_score(wrong, issues), noise_rate(clf), right, wrong.mean()
                found.setdefault(method.__name__, []).append(row)
            proba = out_of_sample(data.X, given, seed)
            issues = theirs(given, proba, n_jobs=1)
            right = (np.where(issues, proba.argmax(axis=1), given) == data.y).mean()
            row = f1_score(wrong, issues), estimate_noise(given, proba), right, wrong.mean()
            found.setdefault("cleanlab, 5 folds", []).append(row)
        for method, rows in found.items():
            f1, rate, right, true = np.mean(rows, axis=0)
            cells = name, noise, f"{true:.3f}", method, f"{f1:.3f}", f"{rate:.3f}", f"{right:.3f}"
            print(f"| {' | '.join(cells)} |", flush=True)


def estimate_noise(given, proba):
    """Return cleanlab's estimate of the noise rate."""
    joint = estimate_joint(given, proba)
    return 1 - joint.trace() / joint.sum()


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
        features(args.data, args.seeds)
        flags(args.data, args.seeds)
    else:
        print(f"No folder {args.data}: the real data sets are left out.")
    million()
