"""From an estimator's parameters to the skorch net that a fit trains."""

import math
import threading
from contextlib import contextmanager
from copy import deepcopy
from functools import partial

import numpy as np
import torch
from torch.utils.data import Subset

from sknoisy.functional import at_least_float32
from sknoisy.networks.augmentation import build_augmentation
from sknoisy.networks.build import build_module, check_logits
from sknoisy.networks.layout import use_channels_last
from sknoisy.training.data import BatchLoader, RowDataset
from sknoisy.training.net import Augment, InnerNet, as_inputs, resolve_device
from sknoisy.training.targets import SoftTargetLoss
from sknoisy.training.warmup_search import Pilot, auto_max_epochs

# What is meant for all rows, or for the user, has no place in a net that sees some of them.
NOT_IN_PILOT = (
    "callbacks",
    "compile",
    "iterator_train__sampler",
    "iterator_train__batch_sampler",
    "iterator_train__drop_last",
    "iterator_train__shuffle",
)
MAX_SEED = np.iinfo(np.int32).max
PREDICT_ROWS, PREDICT_NUMBERS = (
    4096,
    2**18,
)  # at most so many in a batch for prediction: fits caches

# One kernel a step instead of ten a parameter: a fifth of a small network's step.
FUSED_OPTIMIZERS = (torch.optim.Adam, torch.optim.AdamW)

# torch's CPU generator is global: two fits that seed it in two threads would mix their streams.
_GENERATOR_LOCK = threading.RLock()


def softmax(logits):
    """Turn logits into probabilities; a named function, so nets pickle."""
    return at_least_float32(logits).softmax(dim=1)


@contextmanager
def seeded(seed, device):
    """Seed numpy and torch, then put them back."""
    devices = [device] if device.type == "cuda" else []
    with _GENERATOR_LOCK, torch.random.fork_rng(devices):
        numpy_state = np.random.get_state()  # noqa: NPY002 - the legacy generator is the global one
        np.random.seed(seed)  # noqa: NPY002
        torch.manual_seed(seed)
        try:
            yield
        finally:
            np.random.set_state(numpy_state)  # noqa: NPY002


def split_by_label(train_split, labels, dataset, rows):
    """Call a skorch `train_split` with the labels of the rows, so that it can stratify."""
    train, valid = train_split(dataset, labels[rows])
    if not (isinstance(train, Subset) and isinstance(valid, Subset) and valid.dataset is dataset):
        raise ValueError(
            f"train_split must split the training rows in two, got {train_split!r}; pass"
            " skorch.dataset.ValidSplit(...), or None to train on every row."
        )
    return train, valid


def one_hot(labels, n_classes, module):
    """Return the table of soft labels to begin with; in float64 for a module in float64."""
    is_double = any(p.dtype == torch.float64 for p in module.parameters())
    targets = torch.zeros(len(labels), n_classes, dtype=torch.float64 if is_double else None)
    targets[torch.arange(len(labels)), torch.from_numpy(labels)] = 1
    return targets


class NetBuilder:
    """The part of an estimator that turns its parameters into nets."""

    def _num_workers(self):
        return self.skorch_params.get("iterator_train__num_workers", 0)

    def _batch_rows(self, X):
        """Return the rows of a training batch."""
        rows = self.skorch_params.get("iterator_train__batch_size", self.batch_size)
        return X.shape[0] if rows == -1 else rows

    def _steps_per_epoch(self, X):
        return math.ceil(X.shape[0] / self._batch_rows(X))

    def _epochs_of(self, X):
        """Return the number of epochs of a fit on X."""
        if self.max_epochs != "auto":
            return self.max_epochs
        return auto_max_epochs(self._steps_per_epoch(X), len(self.classes_))

    def _learning_rate(self, X):
        """Return the learning rate of a fit on X."""
        return self.lr

    def _module_params(self):
        return {
            name.removeprefix("module__"): value
            for name, value in self.skorch_params.items()
            if name.startswith("module__")
        }

    def _net_params(self, X):
        """Return the parameters of a net on rows like those of X that are skorch's."""
        predict_rows = min(PREDICT_ROWS, PREDICT_NUMBERS // math.prod(X.shape[1:]))
        params = {
            "iterator_train__shuffle": True,
            "iterator_valid__batch_size": max(predict_rows, self._batch_rows(X)),
            "iterator_valid__num_workers": self._num_workers(),
            **{k: v for k, v in self.skorch_params.items() if not k.startswith("module__")},
        }
        chosen = {"optimizer__fused", "optimizer__foreach", "optimizer__differentiable"}
        if self.optimizer in FUSED_OPTIMIZERS and not chosen & params.keys():
            params["optimizer__fused"] = True
        return params

    def _inner_net(self, X, module, criterion, **params):
        return InnerNet(
            module,
            criterion=criterion,
            optimizer=self.optimizer,
            lr=self._learning_rate(X),
            batch_size=self.batch_size,
            dataset=RowDataset,
            iterator_train=BatchLoader,
            iterator_valid=BatchLoader,
            predict_nonlinearity=softmax,
            device=str(resolve_device(self.device)),
            amp=self.amp,
            **params,
        )

    def _make_net(self, X, labels, weights, callback_params, callbacks, found_warmup=None):
        """Return the net of a fit, and what was found about its warm-up."""
        device = resolve_device(self.device)
        module = build_module(self.module, self._module_params(), X, len(self.classes_)).to(device)
        first_rows = as_inputs(RowDataset(X).__getitems__(range(min(2, X.shape[0])))[0], device)
        check_logits(module, first_rows, len(self.classes_))
        use_channels_last(module, first_rows)
        targets = one_hot(labels, len(self.classes_), module)
        weights = None if weights is None else weights.to(targets.dtype)
        train_split = self.train_split and partial(split_by_label, self.train_split, labels)
        params = self._net_params(X)
        augmentation = build_augmentation(self.augment, X.shape[1:])
        augment = [] if augmentation is None else [("augment", Augment(augmentation))]

        def make_pilot(max_epochs, label_callback, callbacks, hold_out):
            return self._inner_net(
                X,
                deepcopy(module),
                SoftTargetLoss(targets.clone(), weights),
                max_epochs=max_epochs,
                callbacks=[*callbacks, *augment, ("labels", label_callback)],
                train_split=train_split or hold_out,
                verbose=0,
                **{k: v for k, v in params.items() if not k.startswith(NOT_IN_PILOT)},
                iterator_train__shuffle=True,
            )

        max_epochs = self._epochs_of(X)
        pilot = Pilot(
            make_pilot, X, labels, weights, max_epochs, self._steps_per_epoch(X), found_warmup
        )
        seed = np.random.RandomState(torch.initial_seed() % MAX_SEED).randint(MAX_SEED)
        with seeded(seed, device):  # the fit's own draws stay the same
            label_callback = self._label_callback(pilot, **callback_params)
        net = self._inner_net(
            X,
            module,
            SoftTargetLoss(targets, weights),
            max_epochs=max_epochs,
            # Inputs are augmented and the best weights restored before the labels are written.
            callbacks=[
                *deepcopy(list(self.callbacks or [])),
                *augment,
                ("labels", label_callback),
                *callbacks,
            ],
            train_split=train_split,
            compile=self.compile,
            verbose=self.verbose,
            **params,
        )
        return net, pilot.found
