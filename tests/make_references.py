"""Write what each estimator predicts, in float64, to tests/references/.

Run it after a change that is meant to change predictions, and say in the commit why they changed:

    python tests/make_references.py
"""

import json
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_iris
from torch import nn

from sknoisy import ALRClassifier, MetaLabelNetClassifier, SyntheticMixClassifier
from sknoisy.noise import symmetric_noise

FOLDER = Path(__file__).parent / "references"
ROWS = slice(0, 150, 25)


class Float64Net(nn.Module):
    """A small network whose weights, and so all that follows, are float64."""

    def __init__(self, n_features, n_classes):
        super().__init__()
        self.first = nn.Linear(n_features, 8).double()
        self.last = nn.Linear(8, n_classes).double()

    def forward(self, X):
        """Return the logits."""
        return self.last(self.first(X.double()).tanh())


def fitted():
    """Return each estimator by its name, fitted to iris with 30 % of the labels flipped."""
    X, y = load_iris(return_X_y=True)
    X = (X - X.mean(axis=0)) / X.std(axis=0)
    given = symmetric_noise(y, 0.3, random_state=0)
    common = {"max_epochs": 30, "batch_size": 32, "random_state": 0, "evidence": False}
    adam = {"optimizer": torch.optim.Adam, "lr": 0.01, "optimizer__fused": False}
    alr = ALRClassifier(Float64Net, warmup_epochs=8, **common, **adam)
    mix = SyntheticMixClassifier(Float64Net, warmup_epochs=3, **common, **adam)
    meta = MetaLabelNetClassifier(Float64Net, warmup_epochs=8, **common, **adam)
    rows = np.arange(0, 150, 5)
    return {
        "ALRClassifier": alr.fit(X, given),
        "SyntheticMixClassifier": mix.fit(X, given),
        "MetaLabelNetClassifier": meta.fit(X, given, meta_X=X[rows], meta_y=y[rows]),
    }, X


def references():
    """Return probabilities and soft labels of six rows, by the estimator's name."""
    estimators, X = fitted()
    return {
        name: {
            "predict_proba": clf.predict_proba(X[ROWS]).tolist(),
            "soft_labels_": clf.soft_labels_[ROWS].tolist(),
        }
        for name, clf in estimators.items()
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    FOLDER.mkdir(exist_ok=True)
    for name, values in references().items():
        (FOLDER / f"{name}.json").write_text(json.dumps(values, indent=1) + "\n")
        print(f"wrote {FOLDER / name}.json")
