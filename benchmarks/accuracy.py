"""Test accuracy with noisy labels: the three estimators with defaults against today's peers.

Sets x noise x methods x seeds, a fit each, one after the other in `--jobs` processes; results go to
a CSV as they come (`--out`, by default results/accuracy), and a run that finds one goes on where it
stopped: name another to measure all of it anew. Then a Markdown summary: mean accuracy, mean rank,
the share of the gap between plain cross-entropy and training on the clean labels that a method
closes, the worst loss against the best peer, mean log loss (nats, of probabilities of at least
1e-7) and expected calibration error (10 bins of confidence).

Trusted rows: 100 of each set (at least 3 a class) have their true label. MetaLabelNetClassifier is
told which. Methods marked "+ trusted" get the same true labels among the others without being told;
the rest get the noisy ones. Inputs are what the set holds: unscaled for all, except that linear
models and scikit-learn's MLP stand behind a StandardScaler, except on text, which they do better
without, and gradient boosting gets 100 SVD components of a sparse matrix.

    python benchmarks/accuracy.py --data FOLDER [--sets digits --seeds 3 --jobs 2]
"""

import argparse
import csv
import os
import warnings
from pathlib import Path
from time import perf_counter

import accuracy_sets
import machine
import numpy as np
import torch
from joblib import Parallel, delayed
from sklearn.decomposition import TruncatedSVD
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch.callbacks import EarlyStopping
from skorch.dataset import ValidSplit

from sknoisy import ALRClassifier, MetaLabelNetClassifier, SyntheticMixClassifier

DATA = Path(__file__).parents[2] / "shared" / "data"
RESULTS = Path(__file__).parent / "results"
N_TRUSTED, MIN_A_CLASS = 100, 3
LEAST_PROBABILITY = 1e-7
COLUMNS = ["set", "noise", "method", "seed", "accuracy", "log_loss", "calibration_error", "seconds"]
NUMBERS = COLUMNS[4:]
BASELINE, CEILING = "cross-entropy", "cross-entropy, clean labels"
STOPPED = f"{BASELINE}, early stopping"
OURS = {
    "ALRClassifier": ALRClassifier,
    "SyntheticMixClassifier": SyntheticMixClassifier,
    "MetaLabelNetClassifier": MetaLabelNetClassifier,
}


def cross_entropy(seed, **params):
    """Return the default network under plain cross-entropy: no label ever moves."""
    return ALRClassifier(
        momentum=1.0,
        entropy_weight=0.0,
        warmup_epochs=1,
        evidence=False,
        random_state=seed,
        **params,
    )


def stopped_early(seed):
    """Return the same, ended where the loss on held-out noisy rows is lowest."""
    stop = EarlyStopping(patience=10, load_best=True)
    split = ValidSplit(0.1, stratified=True, random_state=seed)
    return cross_entropy(seed, train_split=split, callbacks=[stop])


def linear(seed):
    """Return logistic regression on scaled columns."""
    return make_pipeline(
        StandardScaler(with_mean=False), LogisticRegression(max_iter=1000, random_state=seed)
    )


def forest(seed):
    """Return scikit-learn's random forest."""
    return RandomForestClassifier(random_state=seed)


def clean_learning(make):
    """Return cleanlab's wrapper around what `make` builds."""

    def build(seed):
        from cleanlab.classification import CleanLearning

        # Its own pool fails inside a worker process.
        return CleanLearning(make(seed), seed=seed, find_label_issues_kwargs={"n_jobs": 1})

    return build


def sklearn_mlp(seed):
    """Return scikit-learn's MLP with early stopping."""
    mlp = MLPClassifier((256, 256), early_stopping=True, max_iter=100, random_state=seed)
    return make_pipeline(StandardScaler(with_mean=False), mlp)


def boosting(seed):
    """Return scikit-learn's histogram gradient boosting."""
    return HistGradientBoostingClassifier(random_state=seed)


PEERS = {
    BASELINE: cross_entropy,
    STOPPED: stopped_early,
    "logistic regression": linear,
    "random forest": forest,
    "gradient boosting": boosting,
    "MLPClassifier": sklearn_mlp,
    "cleanlab, forest": clean_learning(forest),
    "cleanlab, logistic regression": clean_learning(linear),
    "cleanlab, the same network": clean_learning(cross_entropy),
}
ALONE = "logistic regression, trusted rows alone"
ORACLE = "best peer of each set, chosen by its test labels"  # beyond any rule for choosing one
METHODS = [*OURS, *PEERS, *(f"{name} + trusted" for name in PEERS), ALONE, CEILING]
# The same labels and other draws of the network: by how much do equals differ?
AGAIN = {f"{name}, again": name for name in (BASELINE, STOPPED, "ALRClassifier")}
OTHER_DRAWS = 100  # added to their seeds


def leave_unscaled(clf):
    """Take the StandardScaler out of a peer that has one."""
    pipeline = getattr(clf, "clf", clf)
    if hasattr(pipeline, "steps"):
        pipeline.set_params(standardscaler="passthrough")


def trusted_rows(y, seed):
    """Return a mask of 100 rows, spread over the classes, at least 3 of each."""
    rng, classes = np.random.default_rng(seed), np.unique(y)
    share = max(MIN_A_CLASS, N_TRUSTED // len(classes))
    mask = np.zeros(len(y), dtype=bool)
    for label in classes:
        rows = np.flatnonzero(y == label)
        mask[rng.choice(rows, min(share, len(rows)), replace=False)] = True
    return mask


def run(name, noise, method, seed, folder):
    """Fit one method on one set; return its row of the CSV."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    data = accuracy_sets.load(name, folder)
    given = accuracy_sets.noisy_labels(data, noise, seed)
    mask = trusted_rows(data.y, seed)
    X, labels, fit_params = data.X, given, {}
    fitted = AGAIN.get(method, method)
    draws = seed + OTHER_DRAWS * (method in AGAIN)
    base = fitted.removesuffix(" + trusted")
    if base != fitted or fitted == "MetaLabelNetClassifier":
        labels = np.where(mask, data.y, given)
    if fitted == "MetaLabelNetClassifier":
        fit_params["trusted"] = mask
    if fitted in OURS:
        clf = OURS[fitted](random_state=draws)
    elif fitted == CEILING:
        clf, labels = cross_entropy(draws), data.y
    elif fitted == ALONE:
        clf, X, labels = linear(draws), X[mask], data.y[mask]
    else:
        clf = PEERS[base](draws)
    if name.startswith("text"):
        leave_unscaled(clf)
    X_test = data.X_test
    if base == "gradient boosting" and hasattr(X, "toarray"):  # it takes no sparse matrix
        svd = TruncatedSVD(accuracy_sets.TEXT_COMPONENTS, random_state=seed)
        X, X_test = svd.fit_transform(X), svd.transform(X_test)
    start = perf_counter()
    clf.fit(X, labels, **fit_params)
    seconds = perf_counter() - start
    classes = getattr(clf, "classes_", np.unique(labels))  # cleanlab's wrapper has none
    found = measures(clf.predict_proba(X_test), classes, data.y_test)
    return dict(zip(COLUMNS, (name, noise, method, seed, *found, seconds), strict=True))


def measures(proba, classes, y):
    """Return accuracy in percent, log loss in nats, and the expected calibration error."""
    column = {label: k for k, label in enumerate(classes)}
    y = np.array([column.get(label, -1) for label in y])  # given labels may miss a class
    own = np.where(y >= 0, proba[np.arange(len(y)), y], 0).clip(LEAST_PROBABILITY)
    hits = proba.argmax(axis=1) == y
    return 100 * hits.mean(), -np.log(own).mean(), calibration_error(proba.max(axis=1), hits)


def calibration_error(confidence, hits):
    """Return the expected calibration error, in 10 bins of confidence."""
    bins = np.minimum((confidence * 10).astype(int), 9)
    gaps = [abs(confidence[bins == k].sum() - hits[bins == k].sum()) for k in range(10)]
    return sum(gaps) / len(hits)


def read(path):
    """Return the rows of a CSV that is there."""
    if not path.exists():
        return []
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        row.update(
            {name: float(row[name]) for name in NUMBERS if name in row}, seed=int(row["seed"])
        )
    return rows


def key(row):
    """Return what tells a row from the others."""
    return row["set"], row["noise"], row["method"], row["seed"]


def run_all(tasks, path, jobs, folder):
    """Run the tasks, appending each result to the CSV, and say how far it is."""
    is_new = not path.exists()
    results = Parallel(n_jobs=jobs, return_as="generator_unordered")(
        delayed(run)(*task, folder) for task in tasks
    )
    start = perf_counter()
    with open(path, "a", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        if is_new:
            writer.writeheader()
        for done, row in enumerate(results, 1):
            writer.writerow(row)
            file.flush()
            left = (perf_counter() - start) / done * (len(tasks) - done) / 60
            what = f"{row['set']}, {row['noise']}, {row['method']}: {row['accuracy']:.1f}"
            print(f"{done}/{len(tasks)}, {left:.0f} min left: {what}", flush=True)


def table_of(rows, sets, methods, what="accuracy"):
    """Return means over seeds, ndarray (sets, methods); NaN where one is missing."""
    means = np.full((len(sets), len(methods)), np.nan)
    for i, pair in enumerate(sets):
        for j, method in enumerate(methods):
            found = [
                row.get(what, np.nan)
                for row in rows
                if (row["set"], row["noise"]) == pair and row["method"] == method
            ]
            means[i, j] = np.mean(found) if found else np.nan
    return means


def peers_of(method):
    """Return the peers that use the same information as one of our methods."""
    trusted = method == "MetaLabelNetClassifier"
    names = [f"{name} + trusted" if trusted else name for name in PEERS]
    return [*names, ALONE] if trusted else names


def summary(rows, sets):
    """Return the Markdown table of the sets, a line a method."""
    methods = [m for m in METHODS if any(row["method"] == m for row in rows)]
    if not {BASELINE, CEILING} <= set(methods):
        return f"Without {BASELINE!r} and {CEILING!r} there is no gap to close: run them as well."
    means = table_of(rows, sets, methods)
    complete = ~np.isnan(means).any(axis=1)
    if not complete.any():
        return "No set has a result for every method."
    means = means[complete]
    probabilities = [
        table_of(rows, sets, methods, what)[complete].mean(axis=0)
        for what in ("log_loss", "calibration_error")
    ]
    column = {method: means[:, j] for j, method in enumerate(methods)}
    ranked = [m for m in methods if m != CEILING]
    scores = np.stack([column[m] for m in ranked], axis=1)
    ranks = 1 + (scores[:, None, :] > scores[:, :, None]).sum(axis=2)
    gap = column[CEILING] - column[BASELINE]
    lines = [
        f"{complete.sum()} sets\n",
        "| method | mean accuracy, % | mean rank | gap closed, % | worst loss to the best peer "
        "| log loss | calibration error | median seconds a fit |\n" + "|---" * 8 + "|",
    ]
    for method in methods:
        rank = f"{ranks[:, ranked.index(method)].mean():.1f}" if method in ranked else "-"
        closed = 100 * (column[method] - column[BASELINE]).sum() / gap.sum()
        worst = "-"
        peers = [column[peer] for peer in peers_of(method) if peer in column]
        if method in OURS and peers:
            worst = f"{(np.max(peers, axis=0) - column[method]).max():.1f}"
        seconds = np.median([row["seconds"] for row in rows if row["method"] == method])
        log_loss, error = (values[methods.index(method)] for values in probabilities)
        cells = f"{column[method].mean():.1f}", rank, f"{closed:.0f}", worst
        cells += f"{log_loss:.2f}", f"{error:.3f}", f"{seconds:.1f}"
        cells = ["-" if cell == "nan" else cell for cell in cells]  # not measured then
        lines.append(f"| {method} | {' | '.join(cells)} |")
    for kind, ours in (("", "ALRClassifier"), (" + trusted", "MetaLabelNetClassifier")):
        peers = [column[peer] for peer in peers_of(ours) if peer in column]
        if peers:
            best = np.max(peers, axis=0)
            closed = 100 * (best - column[BASELINE]).sum() / gap.sum()
            cells = f"{best.mean():.1f}", "-", f"{closed:.0f}", "-", "-", "-", "-"
            lines.append(f"| {ORACLE}{kind} | {' | '.join(cells)} |")
    return "\n".join(lines)


def details(rows, sets):
    """Return a Markdown table, a line a set: our three, the best peer of each kind, the ceiling."""
    columns = [*OURS, BASELINE, CEILING]
    lines = [f"| set | noise | {' | '.join(columns)} | best peer |", "|---" * 8 + "|"]
    for name, noise in sets:
        means = dict(zip(METHODS, table_of(rows, [(name, noise)], METHODS)[0], strict=True))
        best = max(PEERS, key=lambda peer: np.nan_to_num(means[peer]))
        cells = [f"{means[method]:.1f}" for method in columns]
        lines.append(f"| {name} | {noise} | {' | '.join(cells)} | {best} {means[best]:.1f} |")
    return "\n".join(lines)


def losses(rows, sets):
    """Return a Markdown table: what each of our methods loses on clean labels, mean over sets."""
    means = table_of(rows, sets, [BASELINE, *OURS])
    means = means[~np.isnan(means).any(axis=1)]
    lines = [f"{len(means)} sets with true labels\n", "| method | accuracy, % | lost, points |"]
    lines.append("|---|---|---|")
    for method, accuracy in zip([BASELINE, *OURS], means.mean(axis=0), strict=True):
        lines.append(f"| {method} | {accuracy:.1f} | {means[:, 0].mean() - accuracy:.1f} |")
    return "\n".join(lines)


def steps_back(rows, sets):
    """Return Markdown: where our methods are below what a user could have had without them.

    The same network, plain and stopped early; for trusted rows also ALRClassifier without them, and
    logistic regression on these alone. Below the better, which is chosen by the test labels; that
    one fitted again, with other draws (`AGAIN`), tells what an equal method would have.
    """
    lines = [
        "| method | above the better, mean | over 1 point below it | over 2.5 | worst "
        "| over 0.5 below the worse |\n" + "|---" * 6 + "|",
    ]
    two = [BASELINE, STOPPED]
    four = [*two, "ALRClassifier", ALONE]

    def add(name, accuracy, others):
        known = ~np.isnan(np.column_stack([accuracy, others])).any(axis=1)
        accuracy, others = accuracy[known], others[known]
        if not len(accuracy):
            return
        better = accuracy - others.max(axis=1)
        counts = [int((better < -points).sum()) for points in (1.0, 2.5)]
        worse = int((accuracy - others[:, :2].min(axis=1) < -0.5).sum())
        cells = f"{better.mean():.1f}", *counts, f"{better.min():.1f}", worse
        lines.append(f"| {name} | {' | '.join(map(str, cells))} |")

    for method in OURS:
        others = four if method == "MetaLabelNetClassifier" else two
        add(method, table_of(rows, sets, [method])[:, 0], table_of(rows, sets, others))
    again = {name: other for other, name in AGAIN.items()} | {ALONE: ALONE}  # it draws nothing
    for name, others in (("the better of two", two), ("the best of four", four)):
        first, second = (
            table_of(rows, sets, names) for names in (others, [again[one] for one in others])
        )
        best = np.nan_to_num(first).argmax(axis=1)[:, None]
        found = np.take_along_axis(second, best, axis=1)[:, 0]
        found[np.isnan(second).any(axis=1)] = np.nan  # not all were fitted again
        add(f"{name}, fitted again", found, first)
    return f"{len(sets)} sets, points of accuracy, means over seeds\n\n" + "\n".join(lines)


def is_wanted(method, wanted):
    """Tell whether a method is named, or its name holds a wanted part that is no whole name."""
    return any(method == part if part in [*METHODS, *AGAIN] else part in method for part in wanted)


def main(args):
    folder = args.data if args.data.is_dir() else None
    if folder is None:
        print(f"No folder {args.data}: scikit-learn's own sets alone.")
    pairs = [
        (name, noise)
        for name, noise in accuracy_sets.names(folder)
        if not args.sets or any(wanted in name for wanted in args.sets)
    ]
    if args.clean:
        pairs = accuracy_sets.clean(pairs)
    methods = METHODS
    if args.methods:
        methods = [m for m in [*METHODS, *AGAIN] if is_wanted(m, args.methods)]
    seeds = range(args.first_seed, args.first_seed + args.seeds)
    path = args.out.with_suffix(".csv")
    path.parent.mkdir(parents=True, exist_ok=True)
    known = {key(row) for row in read(path)}
    tasks = [
        (*pair, method, seed)
        for seed in seeds
        for pair in pairs
        for method in methods
        if (*pair, method, seed) not in known
    ]
    print(f"{len(tasks)} fits to do, {len(known)} known in {path}", flush=True)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    run_all(tasks, path, args.jobs, folder)
    rows = [row for row in read(path) if key(row)[:2] in pairs and row["seed"] in seeds]
    if args.clean:
        print(losses(rows, pairs))
        return
    real = [pair for pair in pairs if pair[1].split()[0] not in ("symmetric", "pair", "instance")]
    synthetic = [pair for pair in pairs if pair not in real]
    parts = [f"{machine.describe()}; seeds {', '.join(map(str, seeds))}"]
    for title, sets in (("All sets", pairs), ("Synthetic noise", synthetic), ("Real noise", real)):
        if sets:
            parts.append(f"## {title}\n\n{summary(rows, sets)}")
    parts.append(f"## Never a step back\n\n{steps_back(rows, pairs)}")
    parts.append(f"## Each set\n\n{details(rows, pairs)}")
    text = "\n\n".join(parts)
    args.out.with_suffix(".md").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--sets", nargs="*", help="run only sets whose name holds one of these")
    parser.add_argument("--methods", nargs="*", help="the same for methods, or whole names")
    parser.add_argument("--clean", action="store_true", help="true labels: what do ours lose?")
    parser.add_argument("--seeds", type=int, default=3, help="how many")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--out", type=Path, default=RESULTS / "accuracy", help="CSV and Markdown")
    main(parser.parse_args())
