"""Seconds an epoch on images: each estimator against a hand-written loop of the same method.

3,000 images of 3 x 32 x 32, the default small ResNet, batch 128, SGD, on a CPU or a GPU. The loops
hold the images as float32 on the device, channels last, and take the equations of this library, so
the difference is what skorch, uint8 images, callbacks and history cost. Epochs of the method's main
phase alone; the median of several turns in one run.

    python benchmarks/image_speed.py [--repeats 3] [--device cpu] [--amp bf16]
"""

import argparse
import warnings
from contextlib import nullcontext
from copy import deepcopy
from functools import partial
from time import perf_counter

import machine
import numpy as np
import torch
from torch.nn.functional import cross_entropy

from sknoisy import ALRClassifier, MetaLabelNetClassifier, SyntheticMixClassifier
from sknoisy.functional import BatchLabels, blend, soft_cross_entropy
from sknoisy.metalabelnet.hypergradient import VirtualStep, by_jvp
from sknoisy.metalabelnet.losses import generated_labels_loss, with_trusted_rows
from sknoisy.metalabelnet.trusted import TrustedBatches
from sknoisy.networks.resnet import SmallResNet
from sknoisy.synthetic_mix.equations import (
    clean_probability,
    label_losses,
    mix,
    mixing_matrix,
    mixing_weights,
    scale_to_unit,
)
from sknoisy.synthetic_mix.neighbors import nearest
from sknoisy.training.refine_labels import refinement_loss

N, CLASSES, BATCH, LR, EPOCHS = 3_000, 10, 128, 0.05, 3
N_TRUSTED, META_BATCH, APPENDED = 500, 48, 16


class Loop:
    """What the loops share: data, network, optimizer, table of labels."""

    def __init__(self, X, y, device, amp):
        torch.manual_seed(0)
        self.device, self.amp = torch.device(device), amp
        X = torch.from_numpy(X).float().div_(255)
        self.X = X.to(device, memory_format=torch.channels_last)
        self.y = torch.from_numpy(y).to(device)
        network = SmallResNet(3, CLASSES)
        network[0].fit(X.numpy())
        self.network = network.to(device, memory_format=torch.channels_last).train()
        self.optimizer = torch.optim.SGD(self.network.parameters(), lr=LR)
        self.table = torch.eye(CLASSES, device=device)[self.y]

    def forward(self, X):
        """Return float32 logits."""
        dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(self.amp)
        with torch.autocast(self.device.type, dtype) if dtype else nullcontext():
            return self.network(X).float()

    def features(self, X):
        """Return the input of the last layer."""
        with torch.no_grad():
            for layer in list(self.network)[:-1]:
                X = layer(X)
        return X

    def step(self, loss):
        """Take a step."""
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()

    def batches(self):
        """Return the rows of each batch of an epoch."""
        return torch.randperm(N).to(self.device).split(BATCH)

    def plain(self):
        """Run an epoch of cross-entropy."""
        for rows in self.batches():
            self.step(cross_entropy(self.forward(self.X[rows]), self.y[rows]))

    def alr(self):
        """Run an epoch of ALR."""
        for rows in self.batches():
            logits = self.forward(self.X[rows])
            predicted = logits.detach().softmax(dim=1)
            self.table[rows] = blend(self.table[rows], predicted, 0.9)
            self.step(refinement_loss(logits, BatchLabels(self.table[rows]), entropy_weight=0.5))

    def synthetic_mix(self):
        """Run an epoch of neighbor mixing that updates no label."""
        self.network.eval()
        with torch.no_grad():
            logits = torch.cat([self.forward(X) for X in self.X.split(BATCH)])
        clean = clean_probability(scale_to_unit(label_losses(logits, self.table)))
        self.network.train()
        buffers = [buffer.clone() for buffer in self.network.buffers()]
        for rows in self.batches():
            X = self.X[rows]
            found = self.features(X)
            for buffer, before in zip(self.network.buffers(), buffers, strict=True):
                buffer.copy_(before)
            positions = nearest(found, 3)
            weights = mixing_weights(clean[rows], clean[rows][positions])
            own = torch.arange(len(rows), device=self.device)[:, None]
            matrix = mixing_matrix(weights, torch.cat([own, positions], dim=1), len(rows))
            mixed = mix(matrix, X).to(memory_format=torch.channels_last)
            labels = BatchLabels(matrix @ self.table[rows])
            self.step(soft_cross_entropy(self.forward(mixed), labels))
            buffers = [buffer.clone() for buffer in self.network.buffers()]

    def meta_label_net(self):
        """Run an epoch of generated labels."""
        self.network.eval()
        features = torch.cat([self.features(X) for X in self.X.split(BATCH)])
        self.network.train()
        label_net = deepcopy(self.network[-1])
        label_optimizer = torch.optim.Adam(label_net.parameters(), lr=5e-4)
        trusted = self.y[:N_TRUSTED].cpu()
        meta_batches, appended = (
            TrustedBatches(trusted, META_BATCH, np.random.default_rng(0)),
            TrustedBatches(trusted, APPENDED, np.random.default_rng(1)),
        )
        start = perf_counter()
        for rows in self.batches():
            ahead, near = meta_batches.draw(), appended.draw()
            X = torch.cat([self.X[rows], self.X[near]])
            state = torch.get_rng_state()
            logits, z = self.forward(X), label_net(features[rows])
            n = len(rows)
            gradient = by_jvp(
                VirtualStep(
                    self.network, X, logits[:n], z, self.X[ahead], self.y[ahead], 5.0, 1.0, state
                )
            )
            label_optimizer.zero_grad()
            z.backward(gradient=gradient)
            label_optimizer.step()
            with torch.no_grad():
                self.table[rows] = label_net(features[rows]).softmax(dim=1)
            targets = torch.cat([self.table[rows], torch.eye(CLASSES)[self.y[near]].to(X.device)])
            self.step(
                with_trusted_rows(
                    logits,
                    BatchLabels(targets),
                    loss=_generated,
                    n_trusted=len(near),
                    trusted_weight=0.5,
                )
            )
        return perf_counter() - start


_generated = partial(generated_labels_loss, entropy_weight=1.0, scale=1.0)


def loop_seconds(loop, method):
    """Return the median seconds of a few epochs of a loop."""
    seconds = []
    for _ in range(EPOCHS):
        start = perf_counter()
        own = getattr(loop, method)()  # the label network's loop leaves its set-up out
        if loop.device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(own or perf_counter() - start)
    return np.median(seconds)


def fit_seconds(clf, first, X, y, **fit_params):
    """Return the median seconds of the epochs from `first` on."""
    clf.fit(X, y, **fit_params)
    return np.median(clf.history_[first - 1 :, "dur"])


def main(repeats, device, amp):
    print(machine.describe())
    print(f"{N} images, small ResNet, batch {BATCH}, {device}, {amp or 'float32'}\n")
    rng = np.random.default_rng(0)
    X, y = rng.integers(256, size=(N, 3, 32, 32), dtype=np.uint8), np.arange(N) % CLASSES
    shared = {
        "optimizer": torch.optim.SGD,
        "lr": LR,
        "batch_size": BATCH,
        "max_epochs": EPOCHS + 1,
        "device": device,
        "amp": amp or False,
        "evidence": False,
    }
    plain = ALRClassifier(momentum=1.0, entropy_weight=0.0, **shared)
    alr = ALRClassifier(momentum=0.9, warmup_epochs=1, **shared)
    mixing = SyntheticMixClassifier(
        warmup_epochs=0,
        mix_start=2,
        mix_end=EPOCHS + 1,
        max_noise_rate=1.0,
        target_update_every=99,
        target_momentum=0.0,
        **shared,
    )
    meta = MetaLabelNetClassifier(
        warmup_epochs=1,
        meta_every=1,
        virtual_lr=5.0,
        labels="generated",
        entropy_weight=1.0,
        **shared,
    )
    trusted = {"trusted": np.arange(N) < N_TRUSTED}
    jobs = {
        "plain": lambda: fit_seconds(plain, 2, X, y),
        "alr": lambda: fit_seconds(alr, 2, X, y),
        "synthetic_mix": lambda: fit_seconds(mixing, 3, X, y),
        "meta_label_net": lambda: fit_seconds(meta, 3, X, y, **trusted),
    }
    print("| method | loop, s an epoch | estimator, s an epoch | estimator / loop |")
    print("|---|---|---|---|")
    for method, job in jobs.items():
        turns = [(loop_seconds(Loop(X, y, device, amp), method), job()) for _ in range(repeats)]
        by_hand, ours = np.median(turns, axis=0)
        print(f"| {method} | {by_hand:.2f} | {ours:.2f} | {ours / by_hand:.2f} |", flush=True)


if __name__ == "__main__":
    warnings.simplefilter("ignore", UserWarning)  # so few epochs flip no label
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--amp", choices=["bf16", "fp16"], default=None)
    main(**vars(parser.parse_args()))
