"""Digits with flipped labels and a few trusted rows: MetaLabelNetClassifier with defaults.

Against the same network trained on the trusted rows alone, for 30, 100 or 300 epochs, whichever is
best on a clean validation split that only this baseline sees. One fixed test split; a seed decides
the noise, which rows are trusted, the initial weights and the batches.

    python benchmarks/digits_trusted.py [--seeds 3]
"""

import argparse

import machine
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from sknoisy import ALRClassifier, MetaLabelNetClassifier
from sknoisy.noise import symmetric_noise

SETTINGS = [(0.4, 100), (0.4, 300), (0.8, 100), (0.4, 30)]  # noise rate, trusted rows


def trusted_alone(X_meta, y_meta, X_valid, y_valid, seed):
    """Return the best of three epoch budgets of plain training on the trusted rows."""
    plain = {"momentum": 1.0, "entropy_weight": 0.0, "evidence": False, "random_state": seed}
    fits = [ALRClassifier(max_epochs=n, **plain).fit(X_meta, y_meta) for n in (30, 100, 300)]
    return max(fits, key=lambda clf: clf.score(X_valid, y_valid))


def scores(rate, n_meta, seed):
    """Return test accuracies of the baseline and of ours, and labels right, in percent."""
    X, y = load_digits(return_X_y=True)
    X, X_test, y, y_test = train_test_split(X, y, stratify=y, random_state=0)
    X_rest, X_meta, y_rest, y_meta = train_test_split(
        X, y, test_size=n_meta, stratify=y, random_state=seed
    )
    _, X_valid, _, y_valid = train_test_split(X_rest, y_rest, test_size=0.2, random_state=seed)
    given = symmetric_noise(y_rest, rate, random_state=seed)
    alone = trusted_alone(X_meta, y_meta, X_valid, y_valid, seed)
    clf = MetaLabelNetClassifier(random_state=seed)
    clf.fit(X_rest, given, meta_X=X_meta, meta_y=y_meta)
    right = (clf.soft_labels_.argmax(axis=1) == y_rest).mean()
    return 100 * np.array([alone.score(X_test, y_test), clf.score(X_test, y_test), right])


def main(seeds):
    print(machine.describe())
    print(f"Digits, symmetric noise, mean (standard deviation) over {seeds} seeds, in percent\n")
    print("| noise | trusted rows | trusted rows alone | MetaLabelNetClassifier | labels right |")
    print("|---|---|---|---|---|")
    for rate, n_meta in SETTINGS:
        found = np.array([scores(rate, n_meta, seed) for seed in range(seeds)])
        cells = [f"{m:.1f} ({s:.1f})" for m, s in zip(found.mean(0), found.std(0), strict=True)]
        print(f"| {rate:.0%} | {n_meta} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    main(**vars(parser.parse_args()))
