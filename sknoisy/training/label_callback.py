"""The base of the callbacks that write the table of soft labels: what a method fills in."""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar

import numpy as np
import torch
from skorch import NeuralNet
from skorch.callbacks import Callback
from torch import Tensor, nn

from sknoisy.functional import BatchLabels, at_least_float32
from sknoisy.training.data import Split
from sknoisy.training.features import write_logits
from sknoisy.training.ranks import ALONE, Alone


class _BeforeLoss:
    """Hook that calls a callback before the loss; a pickled net's hook does nothing."""

    def __init__(self, callback=None, net=None):
        self.callback = callback
        self.net = net

    def __call__(self, criterion, inputs):
        # Optimizers such as LBFGS run forward and loss several times a step; labels move once.
        if criterion.training and self.callback is not None and self.callback.is_first_pass_:
            self.callback.is_first_pass_ = False
            self.callback.before_loss(self.net, *inputs)
            self.callback.note_written(self.net, inputs[1])

    def __reduce__(self):
        return _BeforeLoss, ()


def generator_of(net: NeuralNet) -> np.random.Generator:
    """Return the generator of a net's order of batches; of a plain skorch net a new one."""
    own = getattr(net, "rng_", None)
    return np.random.default_rng(int(torch.randint(2**31, ()))) if own is None else own


def ranks_of(net: NeuralNet) -> Alone:
    """Return the processes that share a net's fit; a plain skorch net is alone."""
    return getattr(net, "ranks", ALONE)


class LabelCallback(Callback, ABC):
    """Base of the callbacks that write the table of a `SoftTargetLoss`.

    A method defines `loss_at`, and those of the hooks `start`, `start_epoch`, `start_batch`,
    `before_loss`, `end_epoch` and `finish` that it needs, which do nothing here. Epochs count from
    1; `before_loss` alone runs with gradients, and finds its epoch in ``len(net.history)``.
    skorch's own hooks, below them, are final. The table begins with the given labels, one-hot, and
    may have more rows than there are given ones.

    Attributes
    ----------
    fitted : tuple of str
        Names of attributes that a finished fit keeps: numbers, text, tensors or modules. Pickles
        hold these and the constructor's parameters, nothing else; files these, and the parameters
        that JSON has a form for.
    warmup_epochs : int
        Epochs on the given labels, a parameter of each method's callback.
    trusted : object or None
        Rows whose labels are known to be right, which no given label overrules.
    rng_ : numpy Generator
        What a method draws by in a fit, beside the order of batches.
    split_ : Split or None
        The rows of the fit, from its first epoch on; None before and after a fit.
    """

    fitted: ClassVar[tuple[str, ...]] = ()
    warmup_epochs: int
    trusted: object = None
    split_: Split | None = None
    n_beside = 0  # rows that are appended to each training batch
    is_first_pass_ = False
    written_ = None

    @abstractmethod
    def loss_at(self, epoch: int) -> Callable[[Tensor, BatchLabels], Tensor]:
        """Return the loss ``(logits, labels) -> scalar`` of an epoch."""

    def phase(self, epoch: int) -> str:
        """Return the name of the phase of an epoch: 'warmup' or another."""
        return "warmup" if epoch <= self.warmup_epochs else "refinement"

    def can_flip(self, epoch: int) -> bool:
        """Return whether a given label can have lost its majority by the end of an epoch."""
        return self.phase(epoch) not in ("warmup", "mixup")

    def start(self, net: NeuralNet, X) -> None:
        """Run before the first epoch, with all inputs."""

    def start_epoch(self, net: NeuralNet, epoch: int) -> None:
        """Run before each epoch, without gradients."""

    def start_batch(self, net: NeuralNet, batch: list, epoch: int) -> None:
        """Run before each training batch, whose inputs and rows may be replaced."""

    def before_loss(self, net: NeuralNet, logits: Tensor, rows: Tensor) -> None:
        """Run between the first forward pass of a training batch and its loss."""

    def end_epoch(self, net: NeuralNet, epoch: int) -> None:
        """Run after each epoch, without gradients."""

    def finish(self, net: NeuralNet) -> None:
        """Run after the last epoch, without gradients, however training ended."""

    def room(self, data) -> int:
        """Return how many rows at most `start` will append to the table of this training data."""
        return 0

    @torch.no_grad()
    def write(self, net, rows: Tensor, labels: Tensor) -> None:
        """Write the soft labels (B, C) of rows (B,) of a training batch into the table.

        Where all processes pass the whole batch, by dropout of their own, those of the first one.
        """
        table, ranks = net.criterion_.targets, ranks_of(net)
        n_rows = getattr(net, "n_rows_", len(rows))
        if ranks.is_split(n_rows):
            table[rows] = labels
        else:
            labels = ranks.gather(n_rows, labels)
            ranks.once(table, lambda: table.index_put_((rows,), labels))

    def note_written(self, net, rows) -> None:
        """Note which rows of the table a batch may have changed, for the other processes."""
        ranks = ranks_of(net)
        if ranks.size == 1 or not isinstance(rows, Tensor):
            return
        if ranks.rank and not ranks.is_split(net.n_rows_):  # the first process answers for these
            return
        if self.written_ is None:
            self.written_ = rows.new_empty(len(self.split_.train) + len(rows)), 0
        noted, n = self.written_
        if len(noted) < n + len(rows):
            noted = torch.cat([noted, noted.new_empty(len(noted))])
        noted[n : n + len(rows)] = rows
        self.written_ = noted, n + len(rows)

    def share_written(self, net) -> None:
        """Write the rows of the table that other processes wrote in this epoch."""
        ranks = ranks_of(net)
        if ranks.size == 1:
            return
        noted, n = self.written_ or (torch.empty(0, dtype=torch.int64), 0)
        ranks.exchange(net.criterion_.targets, noted[:n])
        self.written_ = None

    def with_companions(self) -> list[tuple[str, Callback]]:
        """Return the skorch callbacks that the method consists of: this one, and helpers of it."""
        return [("sknoisy_labels", self)]

    def scorers(self) -> list[tuple[str, Callback]]:
        """Return the skorch callbacks that score each epoch, before any other callback runs."""
        return []

    def fresh(self, **changes) -> "LabelCallback":
        """Return a new callback with the same parameters but for the changes."""
        return type(self)(**{**self.get_params(deep=False), **changes})

    def without_correction(self, epochs: int) -> "LabelCallback":
        """Return a new callback that trains on the given labels for so many epochs, and no more."""
        return self.fresh(warmup_epochs=epochs)

    def state_dict(self) -> dict:
        """Return what the next epoch depends on, or of a finished fit what it keeps.

        Tensors, numbers, text, and dicts of these. Methods add to it.
        """
        state = {name: getattr(self, name, None) for name in self.fitted}
        for name, value in state.items():
            if isinstance(value, nn.Module):
                state[name] = dict(value.state_dict())
        return state

    def load_state_dict(self, state: dict, net=None, split: Split | None = None) -> None:
        """Go on where `state_dict` was taken; with neither net nor rows, as after the last epoch.

        A method that keeps a module makes it anew.
        """
        for name in self.fitted:
            value = state[name]
            is_moved = net is not None and isinstance(value, Tensor)
            setattr(self, name, value.to(net.device) if is_moved else value)
        self.split_ = split

    def kept(self) -> dict:
        """Return the attributes that outlive a fit: the parameters and what `fitted` names."""
        names = {*inspect.signature(type(self).__init__).parameters, *self.fitted}
        return {name: value for name, value in vars(self).items() if name in names}

    __getstate__ = kept

    def on_train_begin(self, net, X=None, **kwargs):
        """Run `before_loss` before the criterion reads the table."""
        self.rng_ = generator_of(net)
        self.handle_ = net.criterion_.register_forward_pre_hook(_BeforeLoss(self, net))
        self.start(net, X)

    @torch.no_grad()
    def on_epoch_begin(self, net, dataset_train=None, dataset_valid=None, **kwargs):
        """Set the loss of the epoch's phase."""
        epoch = len(net.history)
        self.split_ = Split.of(dataset_train, dataset_valid)
        self.start_epoch(net, epoch)
        net.criterion_.loss = self.loss_at(epoch)
        ranks_of(net).meet(net.criterion_.targets)  # batches write what was read until here

    @torch.no_grad()
    def on_batch_begin(self, net, batch=None, training=False, **kwargs):
        """Await the first forward pass of the step."""
        self.is_first_pass_ = True
        if training:
            self.start_batch(net, batch, len(net.history))

    @torch.no_grad()
    def on_epoch_end(self, net, **kwargs):
        """Record how many labels have changed, and how confident the soft labels are."""
        self.end_epoch(net, len(net.history))
        self._record(net)

    def _record(self, net):
        criterion = net.criterion_
        confidence, predicted = criterion.targets[: len(criterion.given)].max(dim=1)
        is_labeled = criterion.is_labeled()
        changed = (predicted != criterion.given)[is_labeled].float().mean()
        net.history.record("labels_changed", changed.item())
        net.history.record("confidence", confidence[is_labeled].float().mean().item())

    @torch.no_grad()
    def on_train_end(self, net, **kwargs):
        """Give rows that are held out, or have no label, the net's own prediction.

        Forget all but what is `kept`.
        """
        if self.split_ is not None:
            self.finish(net)
        ranks_of(net).meet(net.criterion_.targets)
        if net.history and "labels_changed" not in net.history[-1]:  # interrupted
            self._record(net)
        self.handle_.remove()
        if self.split_ is not None and not getattr(net, "is_auxiliary", False):
            self._predict(net, (~net.criterion_.is_labeled()).nonzero().flatten().cpu())
            if self.split_.held_out is not None:
                self._predict(net, torch.as_tensor(self.split_.held_out.indices))
            ranks_of(net).meet(net.criterion_.targets)
        self.__dict__ = self.kept()
        for name in self.fitted:  # on the training device a pickle would need that again
            if isinstance(getattr(self, name), Tensor | nn.Module):
                setattr(self, name, getattr(self, name).cpu())

    def _predict(self, net, rows):
        """Give rows (n,) the net's own prediction as their soft label."""
        write_logits(net, self.split_.data, rows, net.criterion_.targets, as_proba)


def as_proba(logits: Tensor) -> Tensor:
    """Return the probabilities of logits (B, C), in float32 at least."""
    return at_least_float32(logits).softmax(dim=1)
