"""
One fit in several processes
============================

Each process passes its part of every batch, and all end with the same fit.

Started by torchrun, one process a GPU or a few a machine::

    torchrun --nproc_per_node 2 examples/several_processes.py

or by itself, as from a notebook: then two processes are spawned here. Prints the test accuracy, and
that all processes hold the same soft labels.
"""

import os
import tempfile

import torch
import torch.distributed as dist
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from sknoisy import ALRClassifier
from sknoisy.noise import symmetric_noise


def fit():
    """Fit in this process, together with the others of its group."""
    X, y = load_digits(return_X_y=True)
    X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=0)
    y_given = symmetric_noise(y_train, 0.4, random_state=0)
    clf = ALRClassifier(distributed=True, batch_size=256, max_epochs=20, random_state=0)
    clf.fit(X_train, y_given)
    sums = [None] * dist.get_world_size()
    dist.all_gather_object(sums, float((clf.soft_labels_ @ range(10)).sum()))
    if dist.get_rank() == 0:  # predictions are each process's own: no other one waits
        same = "the same" if len(set(sums)) == 1 else "different"
        print(f"{len(sums)} processes, {same} soft labels")
        print(f"ALRClassifier: test accuracy {clf.score(X_test, y_test):.1%}")


def spawned(rank, n_processes, store):
    """Join the group by a file, where no launcher has set the environment."""
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{store}", rank=rank, world_size=n_processes
    )
    fit()
    dist.destroy_process_group()


if __name__ == "__main__":
    if "RANK" in os.environ:  # torchrun's
        dist.init_process_group("cuda:nccl,cpu:gloo" if torch.cuda.is_available() else "gloo")
        fit()
        dist.destroy_process_group()
    else:
        with tempfile.TemporaryDirectory() as folder:
            torch.multiprocessing.spawn(spawned, args=(2, f"{folder}/store"), nprocs=2)
