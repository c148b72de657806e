"""What evidence changes, on sets with known true labels: fits with ``evidence=False`` and with it.

Test accuracy (%) and log loss (nats), expected calibration error in 10 bins, F1 of
``is_label_issue`` against the truly wrong labels, the time of the fit with evidence over that
without, the noise rate, and in what fraction of the fits labels were corrected. Beside them the
same network under plain cross-entropy, to the end and stopped early. MetaLabelNetClassifier gets
100 trusted rows, as many of each class.

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
from accuracy import cross_entropy, measures, stopped_early
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
PEERS = cross_entropy, stopped_early


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
    found = measures(clf.predict_proba(data.X_test), clf.classes_, data.y_test)
    issues = clf.label_issues().sort_values("position").is_label_issue.to_numpy()
    return *found, f1_score(given != data.y, issues, zero_division=1.0), seconds


def compare(method, name, noise, folder, seed):
    """Return the measures of plain training, stopped early, without evidence and with it.

    And what it found: noise rate, true and estimated, and whether labels were corrected.
    """
    data = accuracy_sets.load(name, folder)
    clean = noise == accuracy_sets.CLEAN
    given = data.y if clean else accuracy_sets.noisy_labels(data, noise, seed)
    fit_params = {}
    if method is sknoisy.MetaLabelNetClassifier:
        fit_params["trusted"] = trusted_rows(data.y, seed)
        given = np.where(fit_params["trusted"], data.y, given)
    with_it = method(random_state=seed)
    measured = [measure(make(seed), data, given) for make in PEERS]
    measured.append(measure(method(random_state=seed, evidence=False), data, given, **fit_params))
    measured.append(measure(with_it, data, given, **fit_params))
    found = with_it.evidence_
    return measured, ((given != data.y).mean(), found.noise_rate, found.is_corrected)


def cells_of(measured):
    """Return the cells of accuracy, log loss, calibration error, F1 of issues and time."""
    plain, early, before, after = measured
    return [
        f"{plain[0]:.1f} / {early[0]:.1f} | {before[0]:.1f} -> {after[0]:.1f}",
        f"{early[1]:.2f} | {before[1]:.2f} -> {after[1]:.2f}",
        f"{before[2]:.3f} -> {after[2]:.3f}",
        f"{before[3]:.2f} -> {after[3]:.2f}",
        f"{after[4] / before[4]:.2f}",
    ]


def main(data, method, seeds):
    print(machine.describe())
    print(f"{method}, mean of {seeds} seeds; evidence=False -> with evidence\n")
    head = "set", "noise", "the network plain / stopped early, %", "accuracy, %"
    head += "log loss stopped early", "log loss", "calibration error", "F1 of issues", "time, x"
    head += "noise rate true, estimated", "corrected"
    print(f"| {' | '.join(head)} |\n|{'---|' * len(head)}")
    everything = []
    for name, noise in PAIRS:
        if not name.startswith("sklearn") and data is None:
            continue
        runs = [compare(getattr(sknoisy, method), name, noise, data, s) for s in range(seeds)]
        measured = np.mean([run[0] for run in runs], axis=0)
        true, rate, corrected = np.mean([run[1] for run in runs], axis=0)
        cells = [*cells_of(measured), f"{true:.3f}, {rate:.3f}", f"{corrected:.1f}"]
        print(f"| {name} | {noise} | {' | '.join(cells)} |", flush=True)
        everything.append(measured)
    mean = np.mean(everything, axis=0)
    mean[3, 4] = mean[2, 4] * np.median([m[3, 4] / m[2, 4] for m in everything])
    print(f"| **mean**, time: median | | {' | '.join(cells_of(mean))} | | |")


if __name__ == "__main__":
    warnings.simplefilter("ignore", UserWarning)
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=None)
    parser.add_argument("--method", default="ALRClassifier")
    parser.add_argument("--seeds", type=int, default=2)
    main(**vars(parser.parse_args()))
