"""
CIFAR-10 with human labels
==========================

CIFAR-10N: a torchvision ResNet-18 on any device.

Needs torchvision's copy of CIFAR-10 (it is downloaded to the folder, 170 MB) and the labels of
CIFAR-10N, ``cifar10n_labels.npz`` with an array ``worst`` of 50,000 labels in the original order::

    python examples/cifar10n.py FOLDER

On a GPU 30 epochs take minutes; on a CPU, days: there, take benchmarks/cifar10n.py.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from skorch.callbacks import LRScheduler
from torch.optim.lr_scheduler import CosineAnnealingLR
from torchvision.datasets import CIFAR10
from torchvision.transforms import v2

from sknoisy import ALRClassifier

folder = Path(sys.argv[1]) if len(sys.argv) > 1 and Path(sys.argv[1]).is_dir() else None
if folder is None or not (folder / "cifar10n_labels.npz").exists():
    sys.exit(f"Skipped: no folder with cifar10n_labels.npz was given.\n{__doc__}")

train = CIFAR10(folder, train=True, download=True, transform=v2.PILToTensor())
test = CIFAR10(folder, train=False, download=True, transform=v2.PILToTensor())
y_noisy = np.load(folder / "cifar10n_labels.npz")["worst"]

clf = ALRClassifier(
    "resnet18",
    augment="auto",
    device="auto",
    amp="bf16",
    optimizer=torch.optim.SGD,
    optimizer__momentum=0.9,
    optimizer__weight_decay=5e-4,
    lr=0.05,
    max_epochs=30,
    warmup_epochs=10,
    evidence=False,  # the bare method: two more networks would double the time
    callbacks=[LRScheduler(CosineAnnealingLR, T_max=30)],
    iterator_train__num_workers=4,
    verbose=1,
    random_state=0,
)
clf.fit(train, y_noisy)  # images stay in the Dataset; these labels replace its own
corrected = clf.corrected_labels_
print(f"test accuracy {np.mean(clf.predict(test) == test.targets):.1%}")
print(f"labels right: given {np.mean(y_noisy == train.targets):.1%}", end="")
print(f", corrected {np.mean(corrected == train.targets):.1%}")
