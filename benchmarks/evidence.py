"""What ``evidence=True`` changes, on sets with known true labels: each fit with it and without.

Test accuracy (%) and log loss (nats), expected calibration error in 10 bins, F1 of
``is_label_issue`` against the truly wrong labels, the estimated noise rate, whether labels were
corrected, and the time of the fit with evidence over that without. MetaLabelNetClassifier gets 100
trusted rows, as many of each class.

    python benchmarks/evidence.py --data FOLDER [--method ALRClassifier] [--seeds 2]

scikit-learn's sets are always there; the others come from FOLDER, see accuracy_sets.py.
"""

import argparse
import warnings
from pathlib import Path
from time import perf_counter

import accuracy_sets
import machine
import numpy as np
import torch
from sklearn.metrics import f1_score

import sknoisy

PAIRS = [
    ("text sentiment, SVD", "crowd"),
    ("text semeval, SVD", "weak"),
    ("text youtube, SVD", "weak"),
    ("text yoruba, SVD", "human"),
    ("sklearn digits", "symmetric 40 %"),
    ("sklearn digits", "symmetric 20 %"),
    ("sklearn digits", "pair 35 %"),
    ("sklearn digits", "none"),
    ("sklearn breast_cancer", "symmetric 40 %"),
    ("sklearn breast_cancer", "symmetric 20 %"),
    ("sklearn wine", "symmetric 40 %"),
    ("table vowel", "symmetric 20 %"),
    ("table german", "symmetric 20 %"),
    ("table segmentation", "symmetric 40 %"),
    ("table phoneme", "symmetric 20 %"),
    ("table spambase", "instance 30 %"),
]
N_TRUSTED = 100


def calibration_error(proba, y):
    """Return the expected calibration error of probabilities (n, C), in 10 bins of confidence."""
    confidence, hits = proba.max(axis=1), proba.argmax(axis=1) == y
    bins = np.minimum((confidence * 10).astype(int), 9)
    gaps = [abs(confidence[bins == k].sum() - hits[bins == k].sum()) for k in range(10)]
    return sum(gaps) / len(y)


def trusted_rows(y, seed):
    """Return a mask of trusted rows, as many of each class and at most half of it."""
    rng, classes = np.random.default_rng(seed), np.unique(y)
    mask = np.zeros(len(y), dtype=bool)
    for label in classes:
        rows = np.flatnonzero(y == label)
        n_rows = min(max(1, N_TRUSTED // len(classes)), max(1, len(rows) // 2))
        mask[rng.choice(rows, n_rows, replace=False)] = True
    return mask


def measure(clf, data, given, **fit_params):
    """Return accuracy, log loss, calibration error, F1 of issues and seconds of a fit."""
    start = perf_counter()
    clf.fit(data.X, given, **fit_params)
    seconds = perf_counter() - start
    proba = clf.predict_proba(data.X_test)
    column = {label: k for k, label in enumerate(clf.classes_)}
    y = np.array([column.get(label, -1) for label in data.y_test])  # rules may miss a class
    own = np.where(y >= 0, proba[np.arange(len(y)), y], 0).clip(1e-7)
    issues = clf.label_issues().sort_index().is_label_issue.to_numpy()
    f1 = f1_score(given != data.y, issues, zero_division=1.0)
    accuracy = 100 * (proba.argmax(axis=1) == y).mean()
    return accuracy, -np.log(own).mean(), calibration_error(proba, y), f1, seconds


def compare(method, name, noise, folder, seed):
    """Return the measures without and with evidence, and the evidence."""
    data = accuracy_sets.load(name, folder)
    clean = noise == accuracy_sets.CLEAN
    given = data.y if clean else accuracy_sets.noisy_labels(data, noise, seed)
    fit_params = {}
    if method is sknoisy.MetaLabelNetClassifier:
        fit_params["trusted"] = trusted_rows(data.y, seed)
        given = np.where(fit_params["trusted"], data.y, given)
    without, with_it = method(random_state=seed), method(random_state=seed, evidence=True)
    before = measure(without, data, given, **fit_params)
    after = measure(with_it, data, given, **fit_params)
    return before, after, with_it.evidence_, (given != data.y).mean()


def arrows(before, after):
    """Return the cells of accuracy, log loss, calibration error and F1."""
    return [
        f"{a:.{digits}f} -> {b:.{digits}f}"
        for a, b, digits in zip(before, after, (1, 2, 3, 2), strict=False)
    ]


def main(data, method, seeds):
    print(machine.describe())
    print(f"{method}, mean of {seeds} seeds; without evidence -> with it\n")
    head = "set", "noise", "accuracy, %", "log loss", "calibration error", "F1 of issues"
    head += "noise rate true, estimated", "corrected", "time, x"
    print(f"| {' | '.join(head)} |\n|{'---|' * len(head)}")
    everything = []
    for name, noise in PAIRS:
        if not name.startswith("sklearn") and data is None:
            continue
        runs = [compare(getattr(sknoisy, method), name, noise, data, s) for s in range(seeds)]
        before, after = (np.mean([run[k] for run in runs], axis=0) for k in (0, 1))
        true, found = np.mean([(run[3], run[2].noise_rate) for run in runs], axis=0)
        corrected = sum(run[2].is_corrected for run in runs)
        cells = [*arrows(before, after), f"{true:.3f}, {found:.3f}", f"{corrected} of {seeds}"]
        cells.append(f"{after[4] / before[4]:.2f}")
        print(f"| {name} | {noise} | {' | '.join(cells)} |", flush=True)
        everything.append((before, after))
    before, after = np.mean(everything, axis=0)
    ratio = np.median([a[4] / b[4] for b, a in everything])
    print(f"| **mean** | | {' | '.join(arrows(before, after))} | | | {ratio:.2f} |")


if __name__ == "__main__":
    warnings.simplefilter("ignore", UserWarning)
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=None)
    parser.add_argument("--method", default="ALRClassifier")
    parser.add_argument("--seeds", type=int, default=2)
    main(**vars(parser.parse_args()))
