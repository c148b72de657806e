"""A fourth method in one file, as small as one can be: early-learning regularization (ELR).

Source: S. Liu, J. Niles-Weed, N. Razavian, C. Fernandez-Granda, "Early-Learning Regularization
Prevents Memorization of Noisy Labels", NeurIPS 2020. A running average of the predictions holds
the network to what it learned first, while its loss still reads the given labels.
"""

from dataclasses import replace
from numbers import Integral, Real

import numpy as np
import torch

from sknoisy.base import NoisyLabelClassifier
from sknoisy.functional import BatchLabels, blend, soft_cross_entropy, weighted_mean
from sknoisy.parameters import check_number
from sknoisy.training import LabelCallback


def elr_loss(logits, labels, *, strength):
    """Cross-entropy to the given labels, plus ``strength * mean_i log(1 - sum_c p_ic t_ic)``."""
    p = logits.softmax(dim=1)
    agreement = (p * labels.targets).sum(dim=1).clamp_max(1 - 1e-4)
    fit = soft_cross_entropy(logits, BatchLabels(labels.given, labels.weights))
    return fit + strength * weighted_mean((1 - agreement).log(), labels.weights)


class AveragePredictions(LabelCallback):
    """Average each row's predictions; the fraction that agrees with its label is kept."""

    fitted = ("agreement_",)

    def __init__(self, momentum=0.7, strength=3.0, warmup_epochs=0, averages=None):
        self.momentum = momentum
        self.strength = strength
        self.warmup_epochs = warmup_epochs
        self.averages = averages

    def loss_at(self, epoch):
        strength = self.strength if epoch > self.warmup_epochs else 0.0
        return lambda logits, labels: elr_loss(logits, labels, strength=strength)

    def start(self, net, X):
        table = net.criterion_.targets
        table.fill_(1 / table.shape[1])
        if self.averages is not None:
            table.copy_(torch.as_tensor(self.averages))
        self.agreement_ = 0.0

    @torch.no_grad()
    def before_loss(self, net, logits, rows):
        old = net.criterion_.targets[rows]
        self.write(net, rows, blend(old, logits.softmax(dim=1), self.momentum))

    def end_epoch(self, net, epoch):
        criterion = net.criterion_
        agree = criterion.targets.argmax(dim=1) == criterion.given
        self.agreement_ = agree.double().mean().item()


class ToyClassifier(NoisyLabelClassifier):
    """Classifier trained by early-learning regularization; `averages` are what it begins with."""

    def __init__(
        self, module=None, *, momentum=0.7, strength=3.0, warmup_epochs="auto", class_weight=None,
        optimizer=torch.optim.AdamW, lr=0.001, max_epochs="auto", batch_size=128,
        train_split=None, evidence=True, calibrate=True, callbacks=None, augment=None,
        device="cpu", amp=False, compile=False, distributed=False, verbose=0, random_state=None,
        checkpoint_dir=None, **skorch_params,
    ):  # fmt: skip
        super().__init__(
            module, class_weight=class_weight, optimizer=optimizer, lr=lr, max_epochs=max_epochs,
            batch_size=batch_size, train_split=train_split, evidence=evidence, calibrate=calibrate,
            callbacks=callbacks, augment=augment, device=device, amp=amp, compile=compile,
            distributed=distributed, verbose=verbose, random_state=random_state,
            checkpoint_dir=checkpoint_dir, skorch_params=skorch_params,
        )  # fmt: skip
        self.momentum = momentum
        self.strength = strength
        self.warmup_epochs = warmup_epochs

    def fit(self, X, y=None, sample_weight=None, *, averages=None):
        return self._fit(X, y, sample_weight, averages=averages)

    @property
    def agreement_(self):
        return self._labels.agreement_

    def _check_params(self):
        check_number(self.momentum, "momentum", Real, 0, 1)
        check_number(self.strength, "strength", Real, 0)
        check_number(self.warmup_epochs, "warmup_epochs", Integral, 0, auto=True)

    def _read_fit_params(self, data, row_format, *, averages):
        return (
            data if averages is None else replace(data, extra={"averages": [np.asarray(averages)]})
        )

    _new_label_callback = AveragePredictions

    def _label_callback(self, search, data):
        warmup = 0 if self.warmup_epochs == "auto" else self.warmup_epochs
        averages = data.extra.get("averages", [None])[0]
        return AveragePredictions(self.momentum, self.strength, warmup, averages)
