"""What the review of 100 labels brings, by a simulated reviewer who makes no mistakes.

Digits with 40 % of the labels wrong, at random or the next digit, and text whose labels are the
majority of labelling functions, without rows that have no vote. A seed decides the noise, or how
ties of votes are broken, the rows of the sample, and the fits. Measured:

- test accuracy (%) on the given labels, and after the review of `write_page`'s rows "sample",
  "issues" and "mixed": of both methods on the labels of `Corrections.apply`, MetaLabelNet also with
  the rows of `Corrections.trusted` (none of "issues", half of "mixed");
- wrong labels among the 100 rows, and among the first 100 of cleanlab's `find_label_issues` by self
  confidence: by 5-fold probabilities of the same network, and by our evidence;
- of 100 samples, how many give an interval that holds the noise rate, at confidence 0.95.

Results go to a CSV, a seed of a set at a time (`--out`, by default results/review_loop); a run that
finds one goes on where it stopped: name another to measure all of it anew.

    python benchmarks/review_loop.py --data FOLDER [--sets youtube --seeds 3]
"""

import argparse
import warnings
from functools import partial
from importlib.metadata import version
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

import crowd
import crowd_sets
import machine
import numpy as np
import pandas as pd
import torch
from accuracy import DATA, RESULTS
from cleanlab.filter import find_label_issues
from label_issues import out_of_sample
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from sknoisy import ALRClassifier, MetaLabelNetClassifier
from sknoisy.noise import pair_noise, symmetric_noise
from sknoisy.review import Corrections, write_page

REVIEWED, DRAWS = 100, 100
MODES = ("sample", "issues", "mixed")
COLUMNS = ["set", "seed", "measure", "of", "value"]
ACCURACY, FOUND, INTERVAL = "test accuracy, %", "wrong labels found", "interval of the noise rate"


def digits(folder, seed, flip):
    """Return X, given labels, true labels, and X and labels of the test split."""
    X, y = load_digits(return_X_y=True)
    X, X_test, y, y_test = train_test_split(X, y, stratify=y, random_state=0)
    return X, flip(y, 0.4, random_state=seed), y, X_test, y_test


def text(folder, seed, name):
    """Return the same of rows with votes."""
    data = crowd_sets.load(name, folder)
    given = crowd.majority(data, None, seed)
    return data.X[given.rows], given.labels, data.y[given.rows], data.X_test, data.y_test


SETS = {
    "digits, 40 % symmetric": partial(digits, flip=symmetric_noise),
    "digits, 40 % pairs": partial(digits, flip=pair_noise),
    "youtube": partial(text, name="youtube"),
    "semeval": partial(text, name="semeval"),
}


def review(clf, X, truth, folder, **page):
    """Return the corrections of a page's rows by a person who knows the true labels (n,)."""
    rows = write_page(clf, X, folder / "review.html", columns=[], n_rows=REVIEWED, **page)
    rows["label"] = truth[rows["row"]]
    is_kept, is_accepted = rows["label"] == rows["given"], rows["label"] == rows["suggested"]
    rows["decision"] = np.where(is_kept, "kept", np.where(is_accepted, "accepted", "corrected"))
    rows.to_csv(folder / "corrections.csv", index=False)
    return Corrections.read(folder / "corrections.csv")


def accuracy(model, data, y, seed, **rows):
    """Return the test accuracy of a fit on labels y (n,)."""
    clf = model(random_state=seed).fit(data[0], y, **rows)
    return 100 * clf.score(*data[3:])


def by_cleanlab(given, proba, is_wrong):
    """Return how many labels are wrong among the first of cleanlab's issues."""
    options = {"return_indices_ranked_by": "self_confidence", "n_jobs": 1}
    return is_wrong[find_label_issues(given, proba, **options)[:REVIEWED]].sum()


def measured(data, seed, folder):
    """Yield a measure, what it is of, and its value."""
    X, given, truth, X_test, y_test = data
    is_wrong = given != truth
    alr = ALRClassifier(random_state=seed).fit(X, given)
    yield ACCURACY, "ALR, no review", 100 * alr.score(X_test, y_test)
    yield ACCURACY, "MetaLabelNet, no review", accuracy(MetaLabelNetClassifier, data, given, seed)
    for mode in MODES:
        corrections = review(alr, X, truth, folder, rows=mode, random_state=seed)
        y, trusted = corrections.apply(given), corrections.trusted
        yield FOUND, f'rows="{mode}"', is_wrong[corrections.rows].sum()
        yield ACCURACY, f"ALR, {mode}", accuracy(ALRClassifier, data, y, seed)
        found = accuracy(MetaLabelNetClassifier, data, y, seed, trusted=trusted)
        yield ACCURACY, f"MetaLabelNet, {mode}", found
    yield FOUND, "cleanlab, 5 folds", by_cleanlab(given, out_of_sample(X, given, seed), is_wrong)
    yield FOUND, "cleanlab, our evidence", by_cleanlab(given, alr.evidence_.proba, is_wrong)
    yield FOUND, "a random order", REVIEWED * is_wrong.mean()
    pages = (review(alr, X, truth, folder, rows="sample", random_state=k) for k in range(DRAWS))
    rates = [page.noise_rate(confidence=0.95) for page in pages]
    held = [low <= is_wrong.mean() <= high for _, low, high in rates]
    yield INTERVAL, f"holds it, of {DRAWS}", sum(held)
    yield INTERVAL, "mean width", np.mean([high - low for _, low, high in rates])


def table(results, measure):
    """Return a measure's Markdown table: means over seeds, and each seed."""
    own = results[results.measure == measure].sort_values("seed", kind="stable")
    cells = own.groupby(["of", "set"], sort=False).value.agg(
        lambda values: f"{values.mean():.3g} ({', '.join(f'{value:.3g}' for value in values)})"
    )
    cells = cells.unstack(sort=False).reset_index().rename(columns={"of": measure})
    lines = [list(cells), ["---"] * cells.shape[1], *cells.fillna("-").to_numpy()]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main(args):
    missing = {"youtube", "semeval"}.difference(crowd_sets.names(args.data))
    if missing:
        print(f"No file of {', '.join(sorted(missing))} in {args.data}: left out.")
    names = [name for name in args.sets or SETS if name not in missing]
    path = args.out.with_suffix(".csv")
    results = pd.read_csv(path) if path.exists() else pd.DataFrame(columns=COLUMNS)
    known = set(zip(results["set"], results.seed, strict=True))
    for seed, name in product(range(args.seeds), names):
        if (name, seed) in known:
            continue
        with TemporaryDirectory() as folder:
            rows = measured(SETS[name](args.data, seed), seed, Path(folder))
            rows = pd.DataFrame([(name, seed, *row) for row in rows], columns=COLUMNS)
        rows.to_csv(path, mode="a", header=not path.exists(), index=False)
        print(f"{name}, seed {seed}: done", flush=True)
    if not path.exists():
        return
    results = pd.read_csv(path)
    head = f"{machine.describe()}, cleanlab {version('cleanlab')}; means over seeds, and each seed"
    report = "\n\n".join([head, *(table(results, name) for name in results.measure.unique())])
    args.out.with_suffix(".md").write_text(report + "\n")
    print(report)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--sets", nargs="*", help="names of sets")
    parser.add_argument("--seeds", type=int, default=3, help="how many")
    parser.add_argument(
        "--out", type=Path, default=RESULTS / "review_loop", help="CSV and Markdown"
    )
    main(parser.parse_args())
