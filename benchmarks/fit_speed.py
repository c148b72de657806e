"""Time of fit and predict_proba against hand-written loops and plain skorch.

A table of 50,000 x 50, 10 classes, MLP with 128 hidden units, batch 256, 3 epochs, the same
network, optimizer and settings everywhere; median of several turns in one run.

    python benchmarks/fit_speed.py [--repeats 5]
"""

import argparse

import machine
import numpy as np
import torch
from sklearn.datasets import make_classification
from skorch import NeuralNetClassifier
from torch.nn.functional import cross_entropy

from sknoisy import ALRClassifier
from sknoisy.backbones import MLP
from sknoisy.noise import symmetric_noise

N, FEATURES, CLASSES, EPOCHS, BATCH, LR = 50_000, 50, 10, 3, 256, 0.002
SETTINGS = {"max_epochs": EPOCHS, "batch_size": BATCH, "lr": LR}


def network(X):
    """Return the default network with one layer of 128 units."""
    module = MLP(FEATURES, CLASSES, hidden=128)
    module[0].fit(X)
    return module


def loop(X, y, step_loss):
    """Train in the shortest loop: shuffle, slice, forward, loss, backward, step."""
    model = network(X)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR)
    X, y = torch.from_numpy(X), torch.from_numpy(y)
    model.train()
    for epoch in range(EPOCHS):
        for rows in torch.randperm(len(X)).split(BATCH):
            optimizer.zero_grad()
            step_loss(model(X[rows]), y, rows, epoch).backward()
            optimizer.step()
    return model


def cross_entropy_loop(X, y):
    """Plain training."""
    return loop(X, y, lambda logits, y, rows, epoch: cross_entropy(logits, y[rows]))


def alr_loop(X, y):
    """ALR as one would write it by hand."""
    table = torch.eye(CLASSES)[y]

    def step_loss(logits, y, rows, epoch):
        if epoch < 1:
            return cross_entropy(logits, y[rows])
        log_p = logits.log_softmax(dim=1)
        p = log_p.exp()
        targets = 0.18 * table[rows] + 0.82 * p.detach()
        table[rows] = targets
        return -((targets + 0.5 * p) * log_p).sum(dim=1).mean()

    return loop(X, y, step_loss)


def main(repeats):
    X, y = make_classification(
        N, FEATURES, n_informative=20, n_classes=CLASSES, random_state=0, flip_y=0
    )
    X, y = X.astype(np.float32), symmetric_noise(y, 0.4, random_state=0)
    alr = ALRClassifier(module__hidden=128, **SETTINGS)
    skorch_net = NeuralNetClassifier(
        network(X),
        criterion=torch.nn.CrossEntropyLoss,
        optimizer=torch.optim.AdamW,
        **SETTINGS,
        verbose=0,
    )
    fit = machine.median_seconds(
        {
            "cross-entropy loop": lambda: cross_entropy_loop(X, y),
            "ALR loop": lambda: alr_loop(X, y),
            "ALRClassifier": lambda: alr.fit(X, y),
            "skorch defaults": lambda: skorch_net.fit(X, y),
        },
        repeats,
    )
    raw, rows = alr.module_.eval(), torch.from_numpy(X)

    def forward():
        with torch.no_grad():
            return raw(rows).softmax(dim=1)

    predict = machine.median_seconds(
        {"raw forward": forward, "predict_proba": lambda: alr.predict_proba(X)}, 4 * repeats
    )
    print(machine.describe())
    print(
        f"{N} x {FEATURES}, {CLASSES} classes, batch {BATCH}, {EPOCHS} epochs,"
        f" median of {repeats}\n"
    )
    for name, seconds in {**fit, **predict}.items():
        print(f"{name:<22}{seconds:>9.3f} s")
    print()
    for name, base in [
        ("ALRClassifier", "ALR loop"),
        ("ALRClassifier", "cross-entropy loop"),
        ("ALRClassifier", "skorch defaults"),
    ]:
        print(f"fit: {name} / {base}: {fit[name] / fit[base]:.2f}")
    print(f"predict_proba / raw forward: {predict['predict_proba'] / predict['raw forward']:.2f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    main(**vars(parser.parse_args()))
