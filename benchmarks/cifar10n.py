r"""CIFAR-10 with human labels: plain cross-entropy and the three estimators under one recipe.

Needs CIFAR-10 as packs of JPEGs, the labels of CIFAR-10N and, if there, the votes of CIFAR-10H
(`--data`, a folder with cifar10_jpeg_train1..5.npz, cifar10_jpeg_test.npz, cifar10n_labels.npz,
cifar10h.npz). SGD with momentum 0.9, weight decay 5e-4 and a cosine schedule for all; the test
accuracy is that of the last epoch. MetaLabelNet knows the clean labels of 500 training rows. The
images are lossy copies of CIFAR-10's: compare methods with each other, not with papers. Results go
to a CSV and a Markdown table (`--out`, by default results/cifar10n).

    python benchmarks/cifar10n.py                              # 10,000 images on a CPU
    python benchmarks/cifar10n.py --n 50000 --module resnet18 --augment auto --epochs 30 \
        --device cuda --labels worst random1
"""

import argparse
import csv
import io
import time
from itertools import pairwise
from pathlib import Path

import machine
import numpy as np
import torch
from PIL import Image
from skorch.callbacks import LRScheduler
from torch.optim.lr_scheduler import CosineAnnealingLR

from sknoisy import ALRClassifier, MetaLabelNetClassifier, SyntheticMixClassifier

DATA = Path(__file__).parents[2] / "shared" / "data"
RESULTS = Path(__file__).parent / "results"
N_TRUSTED = 500
NAMES = [
    "cross-entropy",
    "ALRClassifier",
    "SyntheticMixClassifier",
    "MetaLabelNetClassifier",
]
COLUMNS = {
    "labels": "labels", "method": "method", "seed": "seed", "accuracy": "test accuracy, %",
    "corrected": "wrong labels corrected, %", "human": "cross-entropy against CIFAR-10H, nats",
    "epoch_seconds": "seconds an epoch", "fit_seconds": "seconds a fit",
}  # fmt: skip


def load_pack(path):
    """Return images (n, 3, 32, 32) uint8, clean labels and positions in the original order."""
    pack = np.load(path)
    header, scan, offsets = (pack[name] for name in ("header", "scan", "offsets"))
    header, scan, offsets = header.tobytes(), scan.tobytes(), offsets.astype(np.int64)
    images = [np.asarray(Image.open(io.BytesIO(header + scan[a:b]))) for a, b in pairwise(offsets)]
    return np.stack(images).transpose(0, 3, 1, 2).copy(), pack["labels"], pack["index"]


def load_packs(folder, names):
    """Return the packs of these names, one after the other."""
    packs = [load_pack(folder / f"cifar10_jpeg_{name}.npz") for name in names]
    return [np.concatenate(part) for part in zip(*packs, strict=True)]


def trusted_rows(true, n_rows, seed):
    """Return a mask of random rows, as many of each class."""
    rng, classes = np.random.default_rng(seed), np.unique(true)
    mask = np.zeros(len(true), dtype=bool)
    for label in classes:
        rows = np.flatnonzero(true == label)
        mask[rng.choice(rows, n_rows // len(classes), replace=False)] = True
    return mask


def make(method, epochs, **recipe):
    """Return the estimator of a name.

    The phases were chosen at 40 epochs on the second 10,000 images, scored by clean labels of the
    third.
    """
    recipe |= {"max_epochs": epochs, "evidence": False}
    if method == "cross-entropy":
        return ALRClassifier(momentum=1.0, entropy_weight=0.0, **recipe)
    if method == "ALRClassifier":
        return ALRClassifier(warmup_epochs=epochs // 10, **recipe)
    if method == "SyntheticMixClassifier":
        phases = {
            "warmup_epochs": 2,
            "mix_start": epochs // 5,
            "mix_end": epochs,
            "max_noise_rate": 1.0,
            "target_update_every": 1,
        }
        return SyntheticMixClassifier(n_neighbors=1, mixup_loss="ce", **phases, **recipe)
    return MetaLabelNetClassifier(warmup_epochs=epochs // 4, **recipe)


def run(method, train, test, votes, recipe, seed):
    """Fit one method; return its row of the table."""
    X, true, given = train
    X_test, y_test = test
    schedule = LRScheduler(CosineAnnealingLR, T_max=recipe["epochs"])
    clf = make(
        method,
        optimizer=torch.optim.SGD,
        optimizer__momentum=0.9,
        optimizer__weight_decay=5e-4,
        callbacks=[schedule],
        random_state=seed,
        **recipe,
    )
    fit_params, labels = {}, given
    if isinstance(clf, MetaLabelNetClassifier):
        fit_params["trusted"] = trusted_rows(true, N_TRUSTED, seed)
        labels = np.where(fit_params["trusted"], true, given)
    start = time.perf_counter()
    clf.fit(X, labels, **fit_params)
    seconds = time.perf_counter() - start
    proba = clf.predict_proba(X_test)
    wrong = labels != true
    believed = clf.classes_[clf.soft_labels_.argmax(axis=1)]
    human = np.nan
    if votes is not None:
        shares = votes / votes.sum(axis=1, keepdims=True)
        human = -(shares * np.log(proba.clip(1e-12))).sum(axis=1).mean()
    return {
        "method": method,
        "seed": seed,
        "accuracy": 100 * (proba.argmax(axis=1) == y_test).mean(),
        "corrected": 100 * (believed == true)[wrong].mean(),
        "human": human,
        "epoch_seconds": np.median(clf.history_[:, "dur"]),
        "fit_seconds": seconds,
    }


def markdown(rows, labels):
    """Return the table of a label set: mean over seeds, each seed's accuracy beside it."""
    names = [name for name in COLUMNS if name not in ("labels", "seed")]
    lines = [f"| {' | '.join(COLUMNS[name] for name in names)} |", "|---" * len(names) + "|"]
    for method in NAMES:
        found = [row for row in rows if row["method"] == method and row["labels"] == labels]
        if not found:
            continue
        cells = [method]
        for name in names[1:]:
            values = [float(row[name]) for row in found]
            cell = f"{np.mean(values):.{2 if name == 'human' else 1}f}"
            if name == "accuracy":
                cell += f" ({', '.join(f'{value:.1f}' for value in values)})"
            cells.append(cell)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main(args):
    if not (args.data / "cifar10n_labels.npz").exists():
        print(f"Skipped: no cifar10n_labels.npz in {args.data}; see --help for what is needed.")
        return
    names, votes = [f"train{k}" for k in range(1, -(-args.n // 10_000) + 1)], None
    if args.development:
        names = ["train2"]
        X_test, y_test, _ = (part[:5_000] for part in load_packs(args.data, ["train3"]))
    else:
        X_test, y_test, test_index = load_packs(args.data, ["test"])
        if (args.data / "cifar10h.npz").exists():
            votes = np.load(args.data / "cifar10h.npz")["counts"][test_index]
    X, true, index = (part[: args.n] for part in load_packs(args.data, names))
    human = np.load(args.data / "cifar10n_labels.npz")
    recipe = {
        "module": None if args.module == "small" else args.module,
        "epochs": args.epochs,
        "lr": args.lr,
        "batch_size": args.batch_size,
        "augment": args.augment,
        "device": args.device,
        "amp": args.amp or False,
    }
    rows = []
    title = (
        f"{machine.describe()}, {args.device}, {args.amp or 'float32'}\n\nCIFAR-10N, {len(X)} "
        f"images, {args.module}, {args.epochs} epochs, lr {args.lr}, batch {args.batch_size}, "
        f"augment {args.augment}, seeds {args.seeds}"
    )
    print(title, flush=True)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    for labels in args.labels:
        for seed in args.seeds:
            for method in args.methods:
                train = X, true, human[labels][index]
                row = run(method, train, (X_test, y_test), votes, recipe, seed)
                rows.append({"labels": labels, **row})
                print({k: v if isinstance(v, str) else round(float(v), 2) for k, v in row.items()})
                with open(args.out.with_suffix(".csv"), "w", newline="") as file:
                    writer = csv.DictWriter(file, COLUMNS)
                    writer.writeheader()
                    writer.writerows(rows)
    tables = [f"{labels}:\n\n{markdown(rows, labels)}" for labels in args.labels]
    text = "\n\n".join([title, *tables])
    args.out.with_suffix(".md").write_text(text + "\n")
    print("\n" + "\n\n".join(tables))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--n", type=int, default=10_000, help="training images")
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--module", default="small", help="or a name of a torchvision model")
    parser.add_argument("--labels", nargs="+", default=["worst"])
    parser.add_argument("--methods", nargs="+", default=NAMES, choices=NAMES)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--lr", type=float, default=0.05)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--augment", choices=["auto"], default=None)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--amp", choices=["bf16", "fp16"], default=None)
    parser.add_argument(
        "--development", action="store_true", help="train on the second 10,000, score on the third"
    )
    parser.add_argument("--out", type=Path, default=RESULTS / "cifar10n", help="CSV and Markdown")
    main(parser.parse_args())
