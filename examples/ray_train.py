"""
One fit on a Ray cluster
========================

Ray Train starts the processes and joins them, the fit shares the rows::

    pip install "ray[train]"
    python examples/ray_train.py
"""

import ray
import torch.distributed as dist
from ray.train import ScalingConfig
from ray.train.torch import TorchTrainer
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from sknoisy import ALRClassifier
from sknoisy.noise import symmetric_noise


def fit():
    """Fit in this worker, together with the others."""
    X, y = load_digits(return_X_y=True)
    X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=0)
    y_given = symmetric_noise(y_train, 0.4, random_state=0)
    clf = ALRClassifier(distributed=True, batch_size=256, max_epochs=20, random_state=0)
    clf.fit(X_train, y_given)
    if dist.get_rank() == 0:
        print(f"ALRClassifier: test accuracy {clf.score(X_test, y_test):.1%}")
        # clf.save(...) to a place that outlives the worker


if __name__ == "__main__":
    ray.init()
    TorchTrainer(fit, scaling_config=ScalingConfig(num_workers=2, use_gpu=False)).fit()
