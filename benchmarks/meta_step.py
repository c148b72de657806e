"""Cost of one MetaLabelNet step against a plain cross-entropy step: seconds and peak memory.

A small CNN on 28 x 28 images and the default network for 32 x 32 images, batch 128, CPU. A step is
what `fit` does for a batch: a forward pass, virtual step, trusted loss, hypergradient and label
network, whose graphs are then gone, and a conventional step with a forward pass of its own; as by
default, with 48 trusted rows a virtual step and 16 appended to the batch, and as the authors, with
128 and none. `fit` lays images out channels last, so the plain step is timed in torch's default
layout, as a hand-written loop has it, and channels last. Memory is the peak of live tensors in the
step, by torch's profiler.

    python benchmarks/meta_step.py [--repeats 30]
"""

import argparse
from functools import partial

import machine
import torch
from fit_speed import small_cnn
from torch import nn
from torch.nn.functional import cross_entropy
from torch.profiler import ProfilerActivity, profile

from sknoisy.functional import BatchLabels
from sknoisy.metalabelnet.classifier import auto_meta_batch_size
from sknoisy.metalabelnet.hypergradient import METHODS, VirtualStep
from sknoisy.metalabelnet.losses import generated_labels_loss, with_trusted_rows
from sknoisy.metalabelnet.trusted import APPENDED
from sknoisy.networks.resnet import SmallResNet
from sknoisy.training.features import preserved

BATCH, CLASSES, LR = 128, 10, 0.2
LOOK_AHEAD, BESIDE = auto_meta_batch_size(BATCH), BATCH // APPENDED


class Steps:
    """One network with its data, and the steps to compare."""

    def __init__(self, make, shape, layout):
        torch.manual_seed(0)
        self.module = make().to(memory_format=layout).train()
        self.optimizer = torch.optim.SGD(self.module.parameters(), lr=LR)
        self.X, self.trusted_X = (
            torch.randn(BATCH, *shape).to(memory_format=layout) for _ in range(2)
        )
        self.y = self.trusted_y = torch.arange(BATCH) % CLASSES
        self.features = torch.randn(BATCH, 64)
        self.label_net = nn.Linear(64, CLASSES)
        self.label_optimizer = torch.optim.Adam(self.label_net.parameters(), lr=1e-3)

    def plain(self):
        """Take a cross-entropy step."""
        self.optimizer.zero_grad()
        cross_entropy(self.module(self.X), self.y).backward()
        self.optimizer.step()

    def meta(self, method, n_trusted=LOOK_AHEAD, n_appended=BESIDE):
        """Take a MetaLabelNet step with the hypergradient by `method`."""
        self.optimizer.zero_grad()
        X = torch.cat([self.X, self.trusted_X[:n_appended]])
        state = torch.get_rng_state()
        z = self.label_net(self.features)
        trusted = self.trusted_X[:n_trusted], self.trusted_y[:n_trusted]
        with preserved(self.module):
            step = VirtualStep(
                self.module,
                X,
                self.module(X)[:BATCH],
                z,
                *trusted,
                step_size=2.0,
                scale=1.0,
                generator_state=state,
                is_graph_kept=False,
            )
            gradient = METHODS[method](step)
        del step
        self.label_optimizer.zero_grad()
        z.backward(gradient=gradient)
        self.label_optimizer.step()
        with torch.no_grad():
            labels = self.label_net(self.features).softmax(dim=1)
        logits = self.module(X)
        appended = torch.eye(CLASSES)[self.trusted_y[:n_appended]]

        loss = partial(generated_labels_loss, entropy_weight=1.0, scale=1.0)

        with_trusted_rows(
            logits,
            BatchLabels(torch.cat([labels, appended])),
            loss=loss,
            n_trusted=n_appended,
            trusted_weight=0.5,
        ).backward()
        self.optimizer.step()


def peak_of_tensors(job):
    """Return the most bytes that `job` holds at once beyond what was there before."""
    job()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        job()
    held = peak = 0
    events = [e for e in profiler.profiler.kineto_results.events() if e.name() == "[memory]"]
    for event in sorted(events, key=lambda e: e.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak


def jobs(make, shape):
    """Return the steps by name, for a network that `make` builds and images of a shape."""
    steps = Steps(make, shape, torch.channels_last)
    default_layout = Steps(make, shape, torch.contiguous_format)
    return {
        "plain, default layout": default_layout.plain,
        "plain, channels last": steps.plain,
        "jvp": lambda: steps.meta("jvp"),
        "double-backward": lambda: steps.meta("double-backward"),
        "finite-difference": lambda: steps.meta("finite-difference"),
        "authors' trusted rows, jvp": lambda: steps.meta("jvp", BATCH, 0),
        "authors' trusted rows, double-backward": lambda: steps.meta("double-backward", BATCH, 0),
    }


def compare(name, make, shape, repeats):
    """Print the table of one network."""
    steps = jobs(make, shape)
    for step in steps.values():
        step()
    seconds = machine.median_seconds(steps, repeats)
    tensors = {name: peak_of_tensors(step) for name, step in steps.items()}
    default, same = "plain, default layout", "plain, channels last"
    print(f"\n{name}, batch {BATCH}, median of {repeats}\n")
    print("| step | ms | x plain | x plain, channels last | tensors, MB | x plain |")
    print("|---|---|---|---|---|---|")
    for name, taken in seconds.items():
        cells = (
            f"{1e3 * taken:.1f}",
            f"{taken / seconds[default]:.2f}",
            f"{taken / seconds[same]:.2f}",
            f"{tensors[name] / 2**20:.0f}",
            f"{tensors[name] / tensors[same]:.2f}",
        )
        print(f"| {name} | {' | '.join(cells)} |")
    print(f"\ndouble-backward / jvp: {seconds['double-backward'] / seconds['jvp']:.2f}")


def main(repeats):
    print(machine.describe())
    compare("Small CNN, 28 x 28", small_cnn, (1, 28, 28), repeats)
    compare(
        "Default network for images, 32 x 32",
        partial(SmallResNet, 3, CLASSES),
        (3, 32, 32),
        repeats,
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=30)
    main(**vars(parser.parse_args()))
