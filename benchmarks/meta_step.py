"""Price of one MetaLabelNet step against a plain cross-entropy step: seconds and peak memory.

A small CNN on 28 x 28 images, batch 128, 128 trusted rows, CPU. A step is what `fit` does for a
batch: forward, look-ahead, trusted loss, hypergradient, label network, conventional step; with and
without trusted rows beside the batch. `fit` lays images out channels last, so the plain step is
timed in torch's default layout, as a hand-written loop has it, and channels last. Memory is the
peak of live tensors in the step, by torch's profiler, and the peak of a process that runs it alone.

    python benchmarks/meta_step.py [--repeats 30]
"""

import argparse
import resource
import subprocess
import sys

import machine
import torch
from fit_speed import small_cnn
from torch import nn
from torch.nn.functional import cross_entropy
from torch.profiler import ProfilerActivity, profile

from sknoisy.hypergradient import METHODS, LookAhead
from sknoisy.metalabelnet import generated_labels_loss, with_trusted_rows

BATCH, CLASSES, LR = 128, 10, 0.2


class Steps:
    """One network with its data, and the steps to compare."""

    def __init__(self, layout=torch.channels_last):
        torch.manual_seed(0)
        self.module = small_cnn().to(memory_format=layout).train()
        self.optimizer = torch.optim.SGD(self.module.parameters(), lr=LR)
        self.X, self.y = torch.randn(BATCH, 1, 28, 28), torch.arange(BATCH) % CLASSES
        self.trusted_X, self.trusted_y = (
            torch.randn(BATCH, 1, 28, 28),
            torch.arange(BATCH) % CLASSES,
        )
        self.features = torch.randn(BATCH, 64)
        self.label_net = nn.Linear(64, CLASSES)
        self.label_optimizer = torch.optim.Adam(self.label_net.parameters(), lr=1e-3)

    def plain(self):
        """Take a cross-entropy step."""
        self.optimizer.zero_grad()
        cross_entropy(self.module(self.X), self.y).backward()
        self.optimizer.step()

    def meta(self, method, n_beside):
        """Take a MetaLabelNet step with the hypergradient by `method`."""
        self.optimizer.zero_grad()
        X = torch.cat([self.X, self.trusted_X[:n_beside]])
        state = torch.get_rng_state()
        logits = self.module(X)
        z = self.label_net(self.features)
        step = LookAhead(
            self.module, X, logits[:BATCH], z, self.trusted_X, self.trusted_y, 2.0, 1.0, state
        )
        gradient = METHODS[method](step)
        self.label_optimizer.zero_grad()
        z.backward(gradient=gradient)
        self.label_optimizer.step()
        with torch.no_grad():
            labels = self.label_net(self.features).softmax(dim=1)
        beside = torch.eye(CLASSES)[self.trusted_y[:n_beside]]

        def loss(logits, targets):
            return generated_labels_loss(logits, targets, 1.0, 1.0)

        with_trusted_rows(logits, torch.cat([labels, beside]), loss, n_beside, 1.0).backward()
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


def jobs():
    """Return the steps by name."""
    steps, default_layout = Steps(), Steps(torch.contiguous_format)
    return {
        "plain, default layout": default_layout.plain,
        "plain, channels last": steps.plain,
        "jvp": lambda: steps.meta("jvp", 0),
        "jvp, 16 trusted rows beside": lambda: steps.meta("jvp", BATCH // 8),
        "double-backward": lambda: steps.meta("double-backward", 0),
        "finite-difference": lambda: steps.meta("finite-difference", 0),
    }


def process_peak(name):
    """Return the peak memory, in MB, of a process that runs one step 20 times."""
    done = subprocess.run(
        [sys.executable, __file__, "--alone", name], capture_output=True, text=True, check=True
    )
    return float(done.stdout.split()[-1])


def alone(name):
    """Run one step 20 times and print the process's peak memory in MB."""
    job = jobs()[name]
    for _ in range(20):
        job()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10)


def main(repeats):
    steps = jobs()
    for step in steps.values():
        step()
    print(machine.describe())
    print(f"Small CNN, batch {BATCH}, {BATCH} trusted rows, median of {repeats}\n")
    seconds = machine.median_seconds(steps, repeats)
    tensors = {name: peak_of_tensors(step) for name, step in steps.items()}
    processes = {name: process_peak(name) for name in steps}
    default, same = "plain, default layout", "plain, channels last"
    print("| step | ms | x plain | x plain, channels last | tensors, MB | x | process, MB | x |")
    print("|---|---|---|---|---|---|---|---|")
    for name, taken in seconds.items():
        cells = (
            f"{1e3 * taken:.1f}",
            f"{taken / seconds[default]:.2f}",
            f"{taken / seconds[same]:.2f}",
            f"{tensors[name] / 2**20:.0f}",
            f"{tensors[name] / tensors[same]:.2f}",
            f"{processes[name]:.0f}",
            f"{processes[name] / processes[same]:.2f}",
        )
        print(f"| {name} | {' | '.join(cells)} |")
    print(f"\ndouble-backward / jvp: {seconds['double-backward'] / seconds['jvp']:.2f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--alone", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.alone:
        alone(arguments.alone)
    else:
        main(arguments.repeats)
