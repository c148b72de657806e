"""The table of soft labels: one criterion reads it, one callback writes it."""

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from skorch import NeuralNet
from skorch.callbacks import Callback
from torch import Tensor, nn

from sknoisy.functional import soft_cross_entropy


class SoftTargetLoss(nn.Module):
    """Loss against a table of soft labels, looked up by row number.

    Parameters
    ----------
    targets : Tensor of shape (n_samples, n_classes)
        The soft labels at the start, usually one-hot. A buffer: it follows the
        net's device and is saved with it.

    Attributes
    ----------
    loss : callable
        ``loss(logits, targets) -> scalar`` of the current phase; the callback
        sets it at the start of each epoch. Held-out batches are always scored
        by plain cross-entropy, so that epochs of all phases compare.
    """

    def __init__(self, targets: Tensor):
        super().__init__()
        self.register_buffer("targets", targets)
        self.loss = soft_cross_entropy

    def forward(self, logits: Tensor, rows: Tensor) -> Tensor:
        """Return the loss of logits (B, C) for the rows (B,) of the table."""
        loss = self.loss if self.training else soft_cross_entropy
        return loss(logits, self.targets[rows])


class LabelCallback(Callback, ABC):
    """Base of the callbacks that write the table of a `SoftTargetLoss`.

    A method says which loss an epoch has, and what happens to the labels of a
    batch between the forward pass and the loss.
    """

    @abstractmethod
    def loss_at(self, epoch: int) -> Callable[[Tensor, Tensor], Tensor]:
        """Return the loss ``(logits, targets) -> scalar`` of an epoch, counted from 1."""

    @abstractmethod
    def before_loss(self, net: NeuralNet, logits: Tensor, rows: Tensor) -> None:
        """Write ``net.criterion_.targets[rows]``, given the logits of a training batch."""

    def on_train_begin(self, net, **kwargs):
        """Listen to the criterion: the loss then reads what this callback wrote."""

        def write(criterion, inputs):
            if criterion.training:
                self.before_loss(net, *inputs)

        self.held_out_ = None
        self.listener_ = net.criterion_.register_forward_pre_hook(write)

    def on_epoch_begin(self, net, dataset_valid=None, **kwargs):
        """Set the loss of the epoch's phase."""
        self.held_out_ = dataset_valid
        net.criterion_.loss = self.loss_at(len(net.history))

    @torch.no_grad()
    def on_train_end(self, net, **kwargs):
        """Give held-out rows the net's own, out-of-sample, prediction."""
        self.listener_.remove()
        del self.listener_
        held_out, self.held_out_ = self.held_out_, None
        if held_out is not None:
            targets = net.criterion_.targets
            predicted = torch.as_tensor(net.predict_proba(held_out))
            targets[torch.as_tensor(held_out.indices)] = predicted.to(targets)
