"""The base of the callbacks that write the table of soft labels."""

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from skorch import NeuralNet
from skorch.callbacks import Callback
from torch import Tensor


class _Listener:
    """Hook that calls a callback before the loss; a pickled net's hook is deaf."""

    def __init__(self, callback=None, net=None):
        self.callback = callback
        self.net = net

    def __call__(self, criterion, inputs):
        # Optimizers such as LBFGS run forward and loss several times a step; labels move once.
        if criterion.training and self.callback is not None and self.callback.is_first_pass_:
            self.callback.is_first_pass_ = False
            self.callback.before_loss(self.net, *inputs)

    def __reduce__(self):
        return _Listener, ()


class LabelCallback(Callback, ABC):
    """Base of the callbacks that write the table of a `SoftTargetLoss`.

    A method says which loss an epoch has. It writes the labels in skorch's hooks
    or in `before_loss`, which does nothing by default.
    """

    @abstractmethod
    def loss_at(self, epoch: int) -> Callable[[Tensor, Tensor, Tensor | None], Tensor]:
        """Return the loss ``(logits, targets, weights) -> scalar`` of an epoch, counted from 1."""

    def phase(self, epoch: int) -> str:
        """Return the name of the phase of an epoch, counted from 1: 'warmup' or another."""
        return "warmup" if epoch <= self.warmup_epochs else "refinement"

    def before_loss(self, net: NeuralNet, logits: Tensor, rows: Tensor) -> None:
        """Run between the forward pass of a training batch and its loss."""

    def checkpoint_state(self) -> dict:
        """Return what the next epoch depends on beside the net and the criterion."""
        return {}

    def restore(self, net, state: dict, dataset_train, dataset_valid) -> None:
        """Go on, after `on_train_begin`, where `checkpoint_state` was taken."""
        self.held_out_ = dataset_valid

    def on_train_begin(self, net, **kwargs):
        """Listen to the criterion: the loss then reads what this callback wrote."""
        self.held_out_ = None
        self.is_first_pass_ = False
        self.handle_ = net.criterion_.register_forward_pre_hook(_Listener(self, net))

    def on_batch_begin(self, net, **kwargs):
        """Await the first forward pass of the step."""
        self.is_first_pass_ = True

    def on_epoch_begin(self, net, dataset_valid=None, **kwargs):
        """Set the loss of the epoch's phase."""
        self.held_out_ = dataset_valid
        net.criterion_.loss = self.loss_at(len(net.history))

    @torch.no_grad()
    def on_epoch_end(self, net, **kwargs):
        """Record how many labels have changed, and how sure the soft labels are."""
        criterion = net.criterion_
        confidence, believed = criterion.targets[: len(criterion.given)].max(dim=1)
        changed = (believed != criterion.given).float().mean()
        net.history.record("labels_changed", changed.item())
        net.history.record("confidence", confidence.float().mean().item())

    @torch.no_grad()
    def on_train_end(self, net, **kwargs):
        """Give held-out rows the net's own, out-of-sample, prediction."""
        if net.history and "labels_changed" not in net.history[-1]:  # interrupted
            LabelCallback.on_epoch_end(self, net)
        self.handle_.remove()
        del self.handle_
        held_out, self.held_out_ = self.held_out_, None
        if held_out is not None:
            targets = net.criterion_.targets
            predicted = torch.as_tensor(net.predict_proba(held_out))
            targets[torch.as_tensor(held_out.indices)] = predicted.to(targets)
