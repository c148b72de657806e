"""
A network of your own
=====================

In the estimator, and in a plain skorch net with the method's parts.

Prints the test accuracy of both, and of the same net under ordinary cross-entropy.
"""

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from skorch import NeuralNet, NeuralNetClassifier
from torch import nn

from sknoisy import ALRClassifier
from sknoisy.noise import symmetric_noise
from sknoisy.training.refine_labels import RefineLabels
from sknoisy.training.targets import SoftTargetLoss


class MyNet(nn.Sequential):
    """Maps (B, n_features) to logits (B, n_classes)."""

    def __init__(self, n_features=64, n_classes=10, width=256):
        super().__init__(
            nn.BatchNorm1d(n_features),
            nn.Linear(n_features, width),
            nn.GELU(),
            nn.Linear(width, n_classes),
        )


X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(
    X.astype(np.float32), y, stratify=y, random_state=0
)
y_noisy = symmetric_noise(y_train, 0.4, random_state=0)

clf = ALRClassifier(MyNet, module__width=128, random_state=0).fit(X_train, y_noisy)
print(f"the estimator        {clf.score(X_test, y_test):.1%}")

# In a skorch net of your own y are row numbers; the criterion holds the labels.
settings = {
    "max_epochs": 50,
    "optimizer": torch.optim.AdamW,
    "lr": 0.001,
    "iterator_train__shuffle": True,
    "train_split": None,
    "verbose": 0,
}
torch.manual_seed(0)
labels = SoftTargetLoss(nn.functional.one_hot(torch.from_numpy(y_noisy)).float())
refine = RefineLabels(momentum=0.9, entropy_weight=0.5, warmup_epochs=3)
net = NeuralNet(MyNet, criterion=labels, callbacks=[("labels", refine)], **settings)
net.fit(X_train, np.arange(len(X_train)))
predicted = net.predict_proba(X_test).argmax(axis=1)
print(f"parts in skorch      {np.mean(predicted == y_test):.1%}")

plain = NeuralNetClassifier(MyNet, criterion=nn.CrossEntropyLoss, **settings)
print(f"plain skorch         {plain.fit(X_train, y_noisy).score(X_test, y_test):.1%}")
