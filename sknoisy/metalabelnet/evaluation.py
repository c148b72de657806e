"""Evaluation passes: of all rows when the warm-up ends, of trusted rows after each epoch."""

import torch
from skorch.callbacks import Callback
from skorch.utils import to_device
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.utils.data import Subset

from sknoisy.training.features import pass_through
from sknoisy.training.label_callback import ranks_of


class ScoreTrusted(Callback):
    """Record accuracy and loss on the trusted rows, None before there are any."""

    def on_epoch_end(self, net, **kwargs):
        """Run before callbacks of the user, who may monitor them."""
        trusted = net.label_callback.trusted_
        accuracy, loss = (None, None) if trusted is None else trusted.score(net)
        net.history.record("meta_accuracy", accuracy)
        net.history.record("meta_loss", loss)


def counted_rows(criterion, train_rows: Tensor) -> Tensor:
    """Return what each row of the table counts: training rows their weight, others nothing."""
    counted = criterion.targets.new_zeros(len(criterion.targets))
    weights = criterion.weights_of(train_rows)
    counted[train_rows] = 1 if weights is None else weights
    return counted


def evaluate_rows(net, data, layer, most_bytes: float) -> tuple[Tensor, Tensor]:
    """Return the features (n, D) and the losses (n,) of all rows, in evaluation mode.

    Features that would take more than `most_bytes` are left out: (0, D).

    Parameters
    ----------
    net : skorch.NeuralNet
        Its criterion is a `SoftTargetLoss`.
    data : RowDataset of n rows
        Inputs and row numbers, the first ones of the table's.
    layer : nn.Module
        The layer whose inputs are the features.
    """
    table = net.criterion_.targets
    losses, features, ranks = table.new_empty(len(data)), None, ranks_of(net)
    numbers = ranks.own(torch.arange(len(data)))
    part = data if ranks.size == 1 else Subset(data, numbers.numpy())
    for X, rows in net.get_iterator(part, training=False):
        rows = to_device(rows, net.device)
        logits, found = pass_through(net, X, layer)
        if features is None:
            n_kept = len(data) if found[0].nbytes * len(data) <= most_bytes else 0
            features = ranks.zeros((n_kept, found.shape[1]), found.dtype, found.device)
        if n_kept:
            features[rows] = found
        losses[rows] = cross_entropy(logits, table[rows].argmax(dim=1), reduction="none").to(losses)
    if n_kept:
        ranks.exchange(features, numbers)
    ranks.exchange(losses[:, None], numbers)
    return features, losses
