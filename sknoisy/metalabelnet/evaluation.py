"""Evaluation passes after the warm-up: features, losses per row, and confusion counts."""

from typing import NamedTuple

import torch
from skorch.utils import to_device
from torch import Tensor
from torch.nn.functional import cross_entropy, one_hot

from sknoisy.training.features import pass_through


class Evaluation(NamedTuple):
    """What a pass over the rows found.

    Attributes
    ----------
    features : Tensor of shape (n, D)
        In the order of the rows.
    counts : Tensor of shape (C, C)
        Of rows predicted as each class (rows), by their label (columns).
    losses : Tensor of shape (n,)
        Cross-entropy to the rows' labels, in the order of the rows.
    """

    features: Tensor
    counts: Tensor
    losses: Tensor


def counted_rows(criterion, train_rows: Tensor) -> Tensor:
    """Return what each row of the table counts: training rows their weight, others nothing."""
    counted = criterion.targets.new_zeros(len(criterion.targets))
    weights = criterion.weights_of(train_rows)
    counted[train_rows] = 1 if weights is None else weights
    return counted


def evaluate_rows(net, data, layer, counted: Tensor) -> Evaluation:
    """Evaluate all rows with a net whose criterion is a `SoftTargetLoss`, in evaluation mode.

    Parameters
    ----------
    net : skorch.NeuralNet
        The net.
    data : RowDataset of n rows
        Inputs and row numbers, the first ones of the table's.
    layer : nn.Module
        The layer whose inputs are the features.
    counted : Tensor of shape (n_table,)
        What each row counts.
    """
    table = net.criterion_.targets
    counts = table.new_zeros(table.shape[1], table.shape[1])
    losses, features = table.new_empty(len(data)), None
    for X, rows in net.get_iterator(data, training=False):
        rows = to_device(rows, net.device)
        logits, found = pass_through(net, X, layer)
        if features is None:
            features = found.new_empty(len(data), found.shape[1])
        features[rows] = found
        losses[rows] = cross_entropy(logits, table[rows].argmax(dim=1), reduction="none")
        predicted = one_hot(logits.argmax(dim=1), len(counts)).to(table)
        counts += predicted.T @ (table[rows] * counted[rows, None])
    return Evaluation(features, counts, losses)


def confusion_counts(net, data, layer, n_classes: int) -> Tensor:
    """Return how many rows of each class (rows) are predicted as each (columns), (C, C).

    `data` is a `RowDataset` of inputs and class numbers.
    """
    confusion = torch.zeros(n_classes, n_classes)
    for X, labels in net.get_iterator(data, training=False):
        predicted = pass_through(net, X, layer)[0].argmax(dim=1).cpu()
        found = labels.cpu() * n_classes + predicted
        confusion += found.bincount(minlength=n_classes**2).view_as(confusion)
    return confusion
