"""Evaluation passes: of all rows when the warm-up ends, of trusted rows after each epoch."""

from skorch.callbacks import Callback
from skorch.utils import to_device
from torch import Tensor
from torch.nn.functional import cross_entropy

from sknoisy.training.features import pass_through


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


def evaluate_rows(net, data, layer) -> tuple[Tensor, Tensor]:
    """Return the features (n, D) and the losses (n,) of all rows, in evaluation mode.

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
    losses, features = table.new_empty(len(data)), None
    for X, rows in net.get_iterator(data, training=False):
        rows = to_device(rows, net.device)
        logits, found = pass_through(net, X, layer)
        if features is None:
            features = found.new_empty(len(data), found.shape[1])
        features[rows] = found
        losses[rows] = cross_entropy(logits, table[rows].argmax(dim=1), reduction="none").to(losses)
    return features, losses
