"""From an estimator's parameters to the skorch nets of a fit, of its search, and of a file."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from skorch.callbacks import Callback
from torch import Tensor, nn

from sknoisy.functional import at_least_float32
from sknoisy.networks.augmentation import build_augmentation
from sknoisy.networks.build import build_module, check_logits
from sknoisy.networks.copying import copy_module
from sknoisy.networks.layout import use_channels_last
from sknoisy.networks.sparse_linear import has_sparse_layer
from sknoisy.rows import stored_type
from sknoisy.training.data import BatchLoader, RowDataset, as_dense_tensor, as_sparse_tensor
from sknoisy.training.held_out import HeldOutScores
from sknoisy.training.lazy_adamw import LazyAdamW
from sknoisy.training.net import Augment, InnerNet, as_inputs
from sknoisy.training.ranks import ALONE, Alone
from sknoisy.training.refinement import Refinement
from sknoisy.training.targets import SoftTargetLoss

# What is meant for all rows, or for the user, has no place in a net that sees some of them.
NOT_IN_SEARCH = (
    "callbacks",
    "compile",
    "iterator_train__sampler",
    "iterator_train__batch_sampler",
    "iterator_train__drop_last",
    "iterator_train__shuffle",
)
SAMPLERS = {"iterator_train__sampler", "iterator_train__batch_sampler"}
PRINT_LOG = "callbacks__print_log"
# At most so many in a batch for prediction: fits caches.
PREDICT_ROWS, PREDICT_NUMBERS = 4096, 2**18

PLAIN_EPOCHS = 200  # that a network trains at most on the given labels, where that is found

# One kernel a step instead of ten a parameter: a fifth of a small network's step.
FUSED_OPTIMIZERS = (torch.optim.Adam, torch.optim.AdamW)
LAZY_OPTIONS = {
    f"optimizer__{name}"
    for name in ("lr", "betas", "eps", "weight_decay", "param_groups", "fused", "foreach")
}


def softmax(logits):
    """Turn logits into probabilities; a named function, so nets pickle."""
    return at_least_float32(logits).softmax(dim=1)


def table_dtype(module: nn.Module) -> torch.dtype:
    """Return the type of tables of a row a label and a column a class: as precise as the module."""
    is_double = any(p.dtype == torch.float64 for p in module.parameters())
    return torch.float64 if is_double else torch.float32


def module_parameters(skorch_params: dict) -> dict:
    """Return the ``module__*`` parameters, by the names that the module knows."""
    return {
        name.removeprefix("module__"): value
        for name, value in skorch_params.items()
        if name.startswith("module__")
    }


def rows_a_batch(estimator, X) -> int:
    """Return the number of rows of a training batch."""
    rows = estimator.skorch_params.get("iterator_train__batch_size", estimator.batch_size)
    return X.shape[0] if rows == -1 else rows


def trains_sparsely(estimator, module: nn.Module, device: torch.device) -> bool:
    """Return whether batches stay sparse: for a first layer that reads them, where all else can.

    Not where inputs are augmented, the network is compiled, several processes share the fit, or
    another optimizer than AdamW, with options that are not those of `LazyAdamW`, sees the
    gradients; and not on MPS.
    """
    options = {k for k in estimator.skorch_params if k.startswith("optimizer__")}
    return (
        has_sparse_layer(module)
        and estimator._reads_sparse_batches
        and estimator.optimizer is torch.optim.AdamW
        and options <= LAZY_OPTIONS
        and estimator.augment is None
        and not estimator.compile
        and not estimator.distributed
        and device.type != "mps"
    )


@dataclass(frozen=True)
class NetRecipe:
    """What the nets of one fit have in common.

    Attributes
    ----------
    module : nn.Module
        The network with its initial weights, on the device.
    n_classes : int
        Number of classes.
    device : torch.device
        Where to train.
    augmentation : callable or None
        What changes the inputs of a training batch.
    params : dict
        Parameters of `InnerNet`: optimizer, learning rate, loaders and skorch's own.
    steps_per_epoch : int
        Batches in an epoch.
    max_epochs : int
        Epochs of the fit. Where they are 'auto', twice the least `refinement` until the warm-up is
        known.
    refinement : Refinement or None
        Where they are 'auto', the numbers of epochs after the warm-up.
    clock : Callback or None
        Watches all nets of the fit.
    ranks : Ranks or Alone
        The processes that share the fit.
    """

    module: nn.Module
    n_classes: int
    device: torch.device
    augmentation: Callable | None
    params: dict
    steps_per_epoch: int
    max_epochs: int
    refinement: Refinement | None = None
    clock: Callback | None = None
    ranks: Alone = ALONE

    @classmethod
    def of(cls, estimator, X, n_classes: int, device, *, lr: float, prior=None, module_params=None):
        """Build the network, and read the other parameters, for rows like those of X.

        `prior` (C,) holds the fractions of the classes; `module_params` stand in for the
        estimator's ``module__*``.
        """
        if module_params is None:
            module_params = module_parameters(estimator.skorch_params)
        module = build_module(estimator.module, module_params, X, n_classes).to(device)
        batch_rows = rows_a_batch(estimator, X)
        predict_rows = min(PREDICT_ROWS, PREDICT_NUMBERS // math.prod(X.shape[1:]))
        given = estimator.skorch_params
        params = {
            "optimizer": estimator.optimizer,
            "lr": lr,
            "batch_size": estimator.batch_size,
            "amp": estimator.amp,
            "iterator_train__shuffle": True,
            "iterator_valid__batch_size": max(predict_rows, batch_rows),
            "iterator_valid__num_workers": given.get("iterator_train__num_workers", 0),
            **{k: v for k, v in given.items() if not k.startswith("module__")},
        }
        steps = math.ceil(X.shape[0] / batch_rows)
        max_epochs, refinement = estimator.max_epochs, None
        if max_epochs == "auto":
            rarest = None if prior is None else prior[prior > 0].min().item()
            refinement = Refinement.auto(steps, n_classes, rarest)
            max_epochs = 2 * refinement.least
        chosen = {"optimizer__fused", "optimizer__foreach", "optimizer__differentiable"}
        if estimator.optimizer in FUSED_OPTIMIZERS and not chosen & params.keys():
            params["optimizer__fused"] = True
        if trains_sparsely(estimator, module, device):
            params |= {"optimizer": LazyAdamW, "dataset__to_tensor": as_sparse_tensor}
        return cls(
            module,
            n_classes,
            device,
            build_augmentation(estimator.augment, X.shape[1:]),
            params,
            steps,
            max_epochs,
            refinement,
        )

    @property
    def longest(self) -> int:
        """The most epochs that a network trains on the given labels."""
        return self.max_epochs if self.refinement is None else PLAIN_EPOCHS

    @property
    def longest_warmup(self) -> int:
        """The most epochs of a warm-up: half of all."""
        return max(1, self.longest // 2)

    def after(self, warmup: int, *, until_settled: bool) -> "NetRecipe":
        """Return the recipe of a fit whose warm-up takes so many epochs."""
        if self.refinement is None:
            return self
        refined = self.refinement.most if until_settled else self.refinement.least
        return replace(self, max_epochs=warmup + refined)

    def lay_out(self, X, *, check: bool = True) -> None:
        """Check the network on the first rows of X, and lay it out for images."""
        to_tensor = self.params.get("dataset__to_tensor", as_dense_tensor)
        batch = as_inputs(to_tensor(X[np.arange(min(2, X.shape[0]))], stored_type(X)), self.device)
        if check:
            check_logits(self.module, batch, self.n_classes)
        use_channels_last(self.module, batch)

    def criterion(
        self, data, class_prior: Tensor | None = None, room: int = 0, *, is_written: bool = True
    ) -> SoftTargetLoss:
        """Return a new table that begins with the given labels of the training data.

        `room` is for the rows that its callback will append. One that is not written may be the
        `label_proba` of the data itself.
        """
        labels = torch.from_numpy(data.labels)
        given = None if data.label_proba is None else labels
        shape = len(labels) + room, self.n_classes
        # What a sampler draws twice in a batch, two processes would write at once.
        is_shareable = self.device.type == "cpu" and not self.params.keys() & SAMPLERS
        ranks = self.ranks if is_shareable else ALONE
        dtype = table_dtype(self.module)
        if data.label_proba is not None and not is_written:
            targets = data.label_proba.to(dtype)
        else:
            targets = ranks.zeros(shape, dtype)[: len(labels)]
            data.write_given(targets)
        of_table = (data.weights, data.class_weights, class_prior)
        of_table = (t if t is None else t.to(targets.dtype) for t in of_table)
        criterion = SoftTargetLoss(targets, *of_table, given=given, is_written=is_written)
        ranks.meet(targets)  # none writes on while another still reads
        return criterion

    def net(self, criterion, callbacks, **params) -> InnerNet:
        """Return the net that trains the recipe's own network.

        `params` join those of the recipe: ``seed``, ``train_split``, ``verbose`` ...
        """
        own = {"max_epochs": self.max_epochs, "callbacks__valid_loss": None, **self.params}
        callbacks = [("sknoisy_held_out", HeldOutScores()), *callbacks]
        return self._net(self.module, criterion, callbacks, own | params)

    def search_net(self, criterion, callbacks, **params) -> InnerNet:
        """Return a net that trains a copy of the network, without what is meant for the user."""
        own = {k: v for k, v in self.params.items() if not k.startswith(NOT_IN_SEARCH)}
        own |= {"iterator_train__shuffle": True, "verbose": 0, **params}
        return self._net(copy_module(self.module), criterion, callbacks, own, is_auxiliary=True)

    def _net(self, module, criterion, callbacks, params, *, is_auxiliary=False):
        if not (params.get("verbose") or any(k.startswith(PRINT_LOG) for k in params)):
            params = {PRINT_LOG: None, **params}  # it lays out lines that nobody sees
        if self.clock is not None:
            callbacks = [("sknoisy_clock", self.clock), *callbacks]
        return InnerNet(
            module,
            criterion=criterion,
            dataset=RowDataset,
            iterator_train=BatchLoader,
            iterator_valid=BatchLoader,
            predict_nonlinearity=softmax,
            classes=np.arange(self.n_classes),
            device=str(self.device),
            callbacks=callbacks,
            is_auxiliary=is_auxiliary,
            ranks=self.ranks,
            **{"callbacks__valid_acc": None, **params},
        )

    def augment(self) -> list:
        """Return the callback that augments batches, in a list, or none."""
        if self.augmentation is None:
            return []
        return [("sknoisy_augment", Augment(self.augmentation))]
