"""Several labels a row: `label_proba` and crowd-kit's, cleanlab's and plain ways to use the votes.

Test accuracy (%), log loss (nats), expected calibration error (10 bins) and seconds (aggregation
and fits) of each way to get labels, with our three estimators at their defaults, the same network
under plain cross-entropy, and that stopped early:

- majority: of the votes, ties at random; rows without votes are left out, as everywhere below but
  where it says shares or Dawid-Skene;
- a row a vote: each vote is a training row; early stopping holds out whole rows;
- crowd-kit: the most probable label by its Dawid-Skene; it knows nothing of annotators whose votes
  all are for one class, and labels alike throughout are predicted for all test rows;
- cleanlab: consensus labels of `get_label_quality_multiannotator`, with 5-fold predictions of the
  same network, trained on cleanlab's majority, as its guide has it;
- shares, Dawid-Skene: ``fit(X, label_proba=CrowdLabels.label_proba(...))``, on all rows, where the
  second is the first on labelling functions that vote for one class alone; "twice":
  then fitted again on the votes joined with the out-of-sample predictions of the first fit;
- true labels: of the rows with votes; the ceiling.

MetaLabelNetClassifier gets no trusted rows. Then, for each way: the share of right labels among
rows with votes, and the mean absolute error of annotators' estimated accuracies, those with 50
votes or more. A fit each, one after the other; results go to a CSV as they come (`--out`, by
default results/crowd), and a run that finds one goes on where it stopped.

    python benchmarks/crowd.py --data FOLDER [--sets youtube --seeds 3]
"""

import argparse
import csv
import warnings
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import crowd_sets
import machine
import numpy as np
import pandas as pd
import torch
from accuracy import DATA, OURS, RESULTS, cross_entropy, measures, stopped_early
from sklearn.base import clone
from sklearn.dummy import DummyClassifier
from sklearn.model_selection import GroupShuffleSplit, StratifiedKFold, cross_val_predict
from skorch.dataset import ValidSplit

from sknoisy.crowd import CrowdLabels

FEWEST_VOTES = 50
PLAIN = {"cross-entropy": cross_entropy, "stopped early": stopped_early}
MODELS = [*OURS, *PLAIN]
KEY = ["set", "labels", "model", "seed"]
NUMBERS = ["accuracy", "log_loss", "calibration_error", "seconds", "label_accuracy"]
NUMBERS += ["annotator_error", "corrected"]
COLUMNS = [*KEY, *NUMBERS]


@dataclass
class Given:
    """What a network is trained on.

    Attributes
    ----------
    rows : ndarray of shape (n_given,)
        Which rows of X; one may come several times.
    labels : ndarray of shape (n_given,) or None
        Their labels.
    label_proba : DataFrame of shape (n_given, n_classes) or None
        Instead of these: probabilities of labels.
    quality : ndarray of shape (n_annotators,) or None
        Estimated accuracy of each annotator.
    """

    rows: np.ndarray
    labels: np.ndarray | None = None
    label_proba: pd.DataFrame | None = None
    quality: np.ndarray | None = None

    def fit(self, clf, X):
        """Return the classifier, fitted."""
        if self.label_proba is not None:
            return clf.fit(X, label_proba=self.label_proba)
        if len(np.unique(self.labels)) == 1:  # networks refuse it
            return DummyClassifier().fit(X[self.rows], self.labels)
        if clf.train_split is not None and len(np.unique(self.rows)) < len(self.rows):
            folds = GroupShuffleSplit(1, test_size=0.1, random_state=clf.random_state)
            clf.set_params(train_split=ValidSplit(list(folds.split(self.rows, None, self.rows))))
        return clf.fit(X[self.rows], self.labels)

    def label_accuracy(self, y):
        """Return the percentage of right labels among rows that have one; halves of ties count."""
        if self.label_proba is None:
            return 100 * (self.labels == y[self.rows]).mean()
        proba = self.label_proba.to_numpy()
        proba, y = proba[~np.isnan(proba[:, 0])], y[~np.isnan(proba[:, 0])]
        is_most = np.isclose(proba, proba.max(axis=1, keepdims=True))
        return 100 * (is_most[np.arange(len(y)), y] / is_most.sum(axis=1)).mean()


def with_votes(votes):
    """Return the numbers of the rows that have a vote."""
    return np.flatnonzero(~np.isnan(votes).all(axis=1))


def crowd_of(data):
    """Return the votes as our table."""
    return CrowdLabels(data.votes)


def quality_by(crowd, by):
    """Return the annotators' accuracies by our estimate, in the order of the table."""
    return crowd.annotators(by)["annotator_quality"].sort_index().to_numpy()


def majority(data, clf, seed):
    """Return the most frequent vote of each row, a random one of several."""
    rows = with_votes(data.votes)
    counts = (data.votes[rows, :, None] == np.arange(data.n_classes)).sum(axis=1)  # (rows, classes)
    counts = counts + np.random.default_rng(seed).random(counts.shape) / 2
    return Given(rows, counts.argmax(axis=1))


def row_a_vote(data, clf, seed):
    """Return each vote as a row."""
    rows, annotators = np.nonzero(~np.isnan(data.votes))
    return Given(rows, data.votes[rows, annotators].astype(int))


def crowd_kit(data, clf, seed):
    """Return the labels of crowd-kit's Dawid-Skene; an annotator's accuracy is their agreement."""
    from crowdkit.aggregation import DawidSkene

    rows, annotators = np.nonzero(~np.isnan(data.votes))
    given = data.votes[rows, annotators].astype(int)
    long = pd.DataFrame({"task": rows, "worker": annotators, "label": given})
    proba = DawidSkene().fit_predict_proba(long).reindex(columns=range(data.n_classes)).fillna(0)
    long["agreement"] = proba.loc[rows].to_numpy()[np.arange(len(rows)), given]
    quality = long.groupby("worker").agreement.mean().to_numpy()
    return Given(proba.index.to_numpy(), proba.to_numpy().argmax(axis=1), quality=quality)


def cleanlab(data, clf, seed):
    """Return cleanlab's consensus labels, by votes and 5-fold predictions of the network."""
    from cleanlab import multiannotator

    rows = with_votes(data.votes)
    votes = pd.DataFrame(data.votes[rows])
    labels = multiannotator.get_majority_vote_label(votes, verbose=False)
    folds = StratifiedKFold(5, shuffle=True, random_state=seed)
    proba = cross_val_predict(
        clone(clf), data.X[rows], labels.astype(int), cv=folds, method="predict_proba"
    )
    found = multiannotator.get_label_quality_multiannotator(votes, proba, verbose=False)
    labels = found["label_quality"]["consensus_label"].to_numpy()
    quality = found["annotator_stats"]["annotator_quality"].sort_index().to_numpy()
    return Given(rows, labels.astype(int), quality=quality)


def probabilities(by):
    """Return the way that asks our table for probabilities of labels."""

    def way(data, clf, seed):
        crowd = crowd_of(data)
        proba = crowd.label_proba(by)
        return Given(np.arange(len(data.X)), label_proba=proba, quality=quality_by(crowd, by))

    return way


def twice(by):
    """Return the way that joins the votes with the predictions of a first fit."""

    def way(data, clf, seed):
        crowd = crowd_of(data)
        first = clone(clf).fit(data.X, label_proba=crowd.label_proba(by))
        proba, quality = crowd.label_proba(first), quality_by(crowd, first)
        return Given(np.arange(len(data.X)), label_proba=proba, quality=quality)

    return way


def true_labels(data, clf, seed):
    """Return the true labels of the rows with votes."""
    rows = with_votes(data.votes)
    return Given(rows, data.y[rows])


WAYS = {
    "majority": (majority, MODELS),
    "a row a vote": (row_a_vote, ["ALRClassifier", *PLAIN]),
    "crowd-kit": (crowd_kit, PLAIN),
    "cleanlab": (cleanlab, PLAIN),
    "shares": (probabilities("shares"), MODELS),
    "Dawid-Skene": (probabilities("dawid_skene"), MODELS),
    "shares, twice": (twice("shares"), ["ALRClassifier"]),
    "Dawid-Skene, twice": (twice("dawid_skene"), ["ALRClassifier"]),
    "true labels": (true_labels, PLAIN),
}
OF_VOTES = ["shares", "Dawid-Skene", "shares, twice", "Dawid-Skene, twice"]
METHODS = [(labels, model) for labels, (_, models) in WAYS.items() for model in models]


def annotator_error(quality, votes, y):
    """Return the mean absolute error of the accuracies of annotators with enough votes.

    cleanlab has none for annotators whose rows have no other vote.
    """
    given = ~np.isnan(votes)
    counts = given.sum(axis=0)
    right = ((votes == y[:, None]) & given).sum(axis=0)
    enough = counts >= FEWEST_VOTES
    return np.nanmean(np.abs(quality - right / counts)[enough])


def run(name, labels, model, seed, folder):
    """Fit one method on one set; return its row of the CSV."""
    data = crowd_sets.load(name, folder)
    clf = OURS[model](random_state=seed) if model in OURS else PLAIN[model](seed)
    start = perf_counter()
    given = WAYS[labels][0](data, clf, seed)
    clf = given.fit(clf, data.X)
    seconds = perf_counter() - start
    found = measures(clf.predict_proba(data.X_test), clf.classes_, data.y_test)
    error = ""
    if given.quality is not None:
        error = annotator_error(given.quality, data.votes, data.y)
    evidence = getattr(clf, "evidence_", None)
    corrected = "" if evidence is None else int(evidence.is_corrected)
    numbers = *found, seconds, given.label_accuracy(data.y), error, corrected
    return dict(zip(COLUMNS, (name, labels, model, seed, *numbers), strict=True))


def read(path):
    """Return the results of a CSV, if it is there."""
    if not path.exists():
        return pd.DataFrame(columns=COLUMNS)
    return pd.read_csv(path)


def run_all(tasks, path, folder):
    """Run the tasks, appending each result to the CSV, and say how far it is."""
    is_new = not path.exists()
    with open(path, "a", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        if is_new:
            writer.writeheader()
        for done, task in enumerate(tasks, 1):
            row = run(*task, folder)
            writer.writerow(row)
            file.flush()
            told = f"{row['accuracy']:.1f} %, {row['seconds']:.0f} s"
            print(f"{done}/{len(tasks)}: {', '.join(map(str, task))}: {told}", flush=True)


def by_set(results, columns):
    """Return means over seeds of columns, a row a (labels, model, set)."""
    return results.groupby(["labels", "model", "set"])[columns].mean()


def as_markdown(head, lines):
    """Return a Markdown table."""
    lines = [[cell.replace("+nan", "-").replace("nan", "-") for cell in line] for line in lines]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *lines))


def accuracies(results, sets):
    """Return the table of test accuracies, a line a method; means where no set is missing."""
    table = by_set(results, ["accuracy", "log_loss", "calibration_error"])
    lines = []
    for labels, model in METHODS:
        own = results[(results.labels == labels) & (results.model == model)]
        if own.empty:
            continue
        means = table.loc[(labels, model)].reindex(sets)
        cells = [f"{accuracy:.1f}" for accuracy in means.accuracy]
        overall = means.mean(skipna=False)
        cells += [f"{overall.accuracy:.1f}", f"{overall.log_loss:.2f}"]
        cells += [f"{overall.calibration_error:.3f}", f"{own.seconds.median():.0f}"]
        corrected = "-" if own.corrected.isna().all() else f"{own.corrected.mean():.1f}"
        lines.append([labels, model, f"{len(own)}", *cells, corrected])
    head = ["labels", "model", "fits", *sets, "mean accuracy, %", "log loss", "calibration error"]
    return as_markdown([*head, "median seconds", "corrected"], lines)


def differences(results, sets):
    """Return the table of what probabilities change against the majority, of the same seeds."""
    majority = results[results.labels == "majority"].set_index(["model", "set", "seed"])
    others = results[results.labels.isin(OF_VOTES)].set_index(["model", "set", "seed"])
    measured = ["accuracy", "log_loss"]
    change = others[measured] - majority[measured].reindex(others.index)
    change["labels"] = others.labels
    table = by_set(change.dropna().reset_index(), measured)
    lines = []
    for labels, model in METHODS:
        if (labels, model) not in table.index.droplevel("set"):
            continue
        means = table.loc[(labels, model)].reindex(sets)
        pairs = [*zip(means.accuracy, means.log_loss, strict=True)]
        pairs.append(means.mean(skipna=False))
        lines.append([model, labels, *(f"{a:+.1f}, {b:+.2f}" for a, b in pairs)])
    return as_markdown(["model", "labels", *sets, "mean"], lines)


def annotators(results, sets):
    """Return the table of right labels, and of annotators' accuracies, a line a way."""
    lines = []
    for labels in WAYS:
        own = results[results.labels == labels].groupby("set")
        right = own.label_accuracy.mean().reindex(sets)
        error = own.annotator_error.mean().reindex(sets)
        if right.notna().any():
            pairs = [*zip(right, error, strict=True)]
            pairs.append((right.mean(), error.mean(skipna=False)))
            lines.append([labels, *(f"{a:.1f}, {b:.3f}".replace(", nan", "") for a, b in pairs)])
    return as_markdown(["labels", *sets, "mean"], lines)


def main(args):
    if not args.data.is_dir():
        print(f"No folder {args.data}: nothing to do.")
        return
    sets = [name for name in crowd_sets.names(args.data) if not args.sets or name in args.sets]
    methods = [
        method
        for method in METHODS
        if (not args.labels or method[0] in args.labels)
        and (not args.models or method[1] in args.models)
    ]
    seeds = range(args.first_seed, args.first_seed + args.seeds)
    path = args.out.with_suffix(".csv")
    path.parent.mkdir(parents=True, exist_ok=True)
    known = set(read(path)[KEY].itertuples(index=False, name=None))
    tasks = [(name, *method, seed) for seed in seeds for name in sets for method in methods]
    tasks = [task for task in tasks if task not in known]
    print(f"{len(tasks)} fits to do, {len(known)} known in {path}", flush=True)
    run_all([] if args.table else tasks, path, args.data)
    results = read(path)
    is_wanted = pd.MultiIndex.from_frame(results[["labels", "model"]]).isin(methods)
    results = results[is_wanted & results.seed.isin(seeds) & results["set"].isin(sets)]
    text = "\n\n".join([
        f"{machine.describe()}; seeds {', '.join(map(str, seeds))}, means over those of a set that"
        " are done",
        f"## Test accuracy\n\n{accuracies(results, sets)}",
        f"## Against the majority: accuracy, log loss\n\n{differences(results, sets)}",
        "## Right labels, %, and mean error of annotators' accuracies\n\n"
        + annotators(results, sets),
    ])  # fmt: skip
    args.out.with_suffix(".md").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--sets", nargs="*", help="names of sets")
    parser.add_argument("--labels", nargs="*", help="names of ways to get labels")
    parser.add_argument("--models", nargs="*", help="names of models")
    parser.add_argument("--seeds", type=int, default=3, help="how many")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--table", action="store_true", help="of the fits that are done")
    parser.add_argument("--out", type=Path, default=RESULTS / "crowd", help="CSV and Markdown")
    main(parser.parse_args())
