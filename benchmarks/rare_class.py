"""A class of a few rows among others: how many of its test rows are found, and accuracy.

Digits, of one of which 15 training rows are left, 20 % of all labels flipped; the test rows hold
all ten as often. Means over four digits and the seeds, of each method with and without
``class_weight="balanced"``, and of the same network under plain cross-entropy.

    python benchmarks/rare_class.py
"""

import argparse
import warnings

import machine
import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from sknoisy import ALRClassifier, SyntheticMixClassifier
from sknoisy.noise import symmetric_noise

RARE, N_ROWS, RATE = (1, 3, 5, 8), 15, 0.2
PLAIN = {"momentum": 1.0, "entropy_weight": 0.0, "warmup_epochs": 1, "evidence": False}
METHODS = {
    "plain cross-entropy": (ALRClassifier, PLAIN),
    "plain cross-entropy, balanced": (ALRClassifier, PLAIN | {"class_weight": "balanced"}),
    "ALRClassifier": (ALRClassifier, {}),
    "ALRClassifier, balanced": (ALRClassifier, {"class_weight": "balanced"}),
    "SyntheticMixClassifier": (SyntheticMixClassifier, {}),
    "SyntheticMixClassifier, balanced": (SyntheticMixClassifier, {"class_weight": "balanced"}),
}


def split(rare, seed):
    """Return training rows, true and given labels of which `rare` is rare; test rows, labels."""
    X, y = load_digits(return_X_y=True)
    X, X_test, y, y_test = train_test_split(X, y, stratify=y, random_state=seed, test_size=0.5)
    kept = np.r_[np.flatnonzero(y != rare), np.flatnonzero(y == rare)[:N_ROWS]]
    return X[kept], y[kept], symmetric_noise(y[kept], RATE, random_state=seed), X_test, y_test


def measure(method, params, rare, seed):
    """Return the recall of the rare class, test accuracy, and the fraction of right labels."""
    X, y, given, X_test, y_test = split(rare, seed)
    clf = method(random_state=seed, **params).fit(X, given)
    hit = clf.predict(X_test) == y_test
    return hit[y_test == rare].mean(), hit.mean(), (clf.corrected_labels_ == y).mean()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    seeds = range(parser.parse_args().seeds)
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    print(machine.describe())
    print(f"\n{len(RARE)} digits x {len(seeds)} seeds\n")
    print("| method | rare digit found | accuracy | corrected labels right |\n|---|---|---|---|")
    for name, (method, params) in METHODS.items():
        rows = [measure(method, params, rare, seed) for rare in RARE for seed in seeds]
        recall, accuracy, right = 100 * np.mean(rows, axis=0)
        print(f"| {name} | {recall:.1f} | {accuracy:.1f} | {right:.1f} |", flush=True)
