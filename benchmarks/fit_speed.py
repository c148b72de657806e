"""Time of fit and predict_proba against hand-written loops and plain skorch.

A table of 50,000 x 50, 10 classes, MLP with 128 hidden units, and 5,000 images of 28 x 28 with a
small CNN; batch 256, 3 epochs, the same network, optimizer and settings everywhere; median of
several turns in one run.

    python benchmarks/fit_speed.py [--repeats 5]
"""

import argparse
import warnings

import machine
import numpy as np
import torch
from sklearn.datasets import make_classification
from skorch import NeuralNetClassifier
from torch import nn
from torch.nn.functional import cross_entropy

from sknoisy import ALRClassifier, SyntheticMixClassifier
from sknoisy.networks.build import build_module
from sknoisy.noise import symmetric_noise

N, FEATURES, CLASSES, EPOCHS, BATCH, LR = 50_000, 50, 10, 3, 256, 0.002
SETTINGS = {"max_epochs": EPOCHS, "batch_size": BATCH, "lr": LR}


def network(X):
    """Return the default network with one layer of 128 units."""
    return build_module(None, {"hidden": 128}, X, CLASSES)


def loop(model, X, y, step_loss):
    """Train in the shortest loop: shuffle, slice, forward, loss, backward, step."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR)
    X, y = torch.from_numpy(X), torch.from_numpy(y)
    model.train()
    for epoch in range(EPOCHS):
        for rows in torch.randperm(len(X)).split(BATCH):
            optimizer.zero_grad()
            step_loss(model(X[rows]), y, rows, epoch).backward()
            optimizer.step()


def plain_loss(logits, y, rows, epoch):
    """Return the loss of ordinary training."""
    return cross_entropy(logits, y[rows])


def alr_loss(y):
    """Return ALR as one would write it by hand."""
    table = torch.eye(CLASSES)[y]

    def step_loss(logits, y, rows, epoch):
        if epoch < 1:
            return cross_entropy(logits, y[rows])
        log_p = logits.log_softmax(dim=1)
        p = log_p.exp()
        targets = 0.7 * table[rows] + 0.3 * p.detach()
        table[rows] = targets
        return -((targets + 0.5 * p) * log_p).sum(dim=1).mean()

    return step_loss


def small_cnn():
    """Return a small network for 28 x 28 images."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(32 * 49, 64), nn.ReLU(), nn.Linear(64, CLASSES),
    )  # fmt: skip


def table():
    """Return the table and its noisy labels."""
    X, y = make_classification(
        N, FEATURES, n_informative=20, n_classes=CLASSES, random_state=0, flip_y=0
    )
    return X.astype(np.float32), symmetric_noise(y, 0.4, random_state=0)


def images(n=5_000):
    """Return random images of squares, whose place tells the class."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(n, 1, 28, 28)).astype(np.float32), rng.integers(CLASSES, size=n)
    for k in range(CLASSES):
        X[y == k, :, 2 * k : 2 * k + 9, 2 * k : 2 * k + 9] += 1
    return X, symmetric_noise(y, 0.4, random_state=0)


def report(seconds, ratios):
    """Print the seconds of each job, then the ratios asked for."""
    for name, taken in seconds.items():
        print(f"{name:<34}{taken:>9.3f} s")
    for name, base in ratios:
        print(f"  {name} / {base}: {seconds[name] / seconds[base]:.2f}")
    print()


def main(repeats):
    print(machine.describe())
    print(f"Median of {repeats}; batch {BATCH}, {EPOCHS} epochs\n")
    X, y = table()
    small = {"module__hidden": 128, **SETTINGS}
    alr = ALRClassifier(**small)
    # From the first epoch on, so that every epoch is one of neighbour mixing.
    always_mix = {"warmup_epochs": 0, "mix_start": 1, "mix_end": EPOCHS, "target_momentum": 0.7}
    always_mix |= {"max_noise_rate": 1.0}
    mix, mix_all = SyntheticMixClassifier(**small), SyntheticMixClassifier(**always_mix, **small)
    skorch_net = NeuralNetClassifier(
        network(X),
        criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.AdamW,
        verbose=0,
        **SETTINGS,
    )
    jobs = {
        "cross-entropy loop": lambda: loop(network(X), X, y, plain_loss),
        "ALR loop": lambda: loop(network(X), X, y, alr_loss(y)),
        "ALRClassifier": lambda: alr.fit(X, y),
        "SyntheticMixClassifier": lambda: mix.fit(X, y),
        "SyntheticMix, all epochs": lambda: mix_all.fit(X, y),
        "skorch defaults": lambda: skorch_net.fit(X, y),
    }
    print(f"Table of {N} x {FEATURES}, {CLASSES} classes, MLP with 128 hidden units: fit")
    report(
        machine.median_seconds(jobs, repeats),
        [
            ("ALRClassifier", "ALR loop"),
            ("ALRClassifier", "skorch defaults"),
            ("SyntheticMixClassifier", "cross-entropy loop"),
            ("SyntheticMix, all epochs", "cross-entropy loop"),
        ],
    )
    raw, rows = alr.module_.eval(), torch.from_numpy(X)

    def forward():
        with torch.no_grad():
            return raw(rows).softmax(dim=1)

    jobs = {"raw forward": forward, "predict_proba": lambda: alr.predict_proba(X)}
    print("The same table: predict_proba")
    report(machine.median_seconds(jobs, 4 * repeats), [("predict_proba", "raw forward")])

    X, y = images()
    alr = ALRClassifier(small_cnn, **SETTINGS)
    mix = SyntheticMixClassifier(small_cnn, **SETTINGS)
    mix_all = SyntheticMixClassifier(small_cnn, **always_mix, **SETTINGS)
    jobs = {
        "cross-entropy loop": lambda: loop(small_cnn(), X, y, plain_loss),
        "ALR loop": lambda: loop(small_cnn(), X, y, alr_loss(y)),
        "ALRClassifier": lambda: alr.fit(X, y),
        "SyntheticMixClassifier": lambda: mix.fit(X, y),
        "SyntheticMix, all epochs": lambda: mix_all.fit(X, y),
    }
    print(f"{len(X)} images of 28 x 28, small CNN: fit")
    report(
        machine.median_seconds(jobs, repeats),
        [
            ("ALRClassifier", "ALR loop"),
            ("SyntheticMixClassifier", "cross-entropy loop"),
            ("SyntheticMix, all epochs", "cross-entropy loop"),
        ],
    )


if __name__ == "__main__":
    # Three epochs are too few to flip labels, and the estimators say so.
    warnings.simplefilter("ignore", UserWarning)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    main(**vars(parser.parse_args()))
