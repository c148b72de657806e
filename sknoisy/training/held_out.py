"""Held-out rows: which they are, and how well their given labels are foretold after each epoch."""

import numpy as np
from skorch.callbacks import Callback
from skorch.utils import to_device
from torch import Tensor
from torch.utils.data import Subset

from sknoisy.training.data import RowDataset
from sknoisy.training.datasets import is_dataset
from sknoisy.training.noise_model import calibrated_loss


class HeldOutSplit:
    """A skorch `train_split` that is called with the labels of rows, so that it can stratify.

    Parameters
    ----------
    train_split : callable
        The estimator's.
    labels : ndarray of shape (n_labels,)
        Class numbers of the rows.
    read : callable
        Returns the inputs of a Dataset other than that of the rows, and its class numbers.
    """

    def __init__(self, train_split, labels, read):
        self.train_split = train_split
        self.labels = labels
        self.read = read

    def __call__(self, dataset, rows):
        """Return the rows to train on and those held out, which may be of another Dataset."""
        train, valid = self.train_split(dataset, self.labels[rows])
        is_part = train is dataset or getattr(train, "dataset", None) is dataset
        if is_part and isinstance(valid, Subset) and valid.dataset is dataset:
            return train, valid
        if not (is_part and is_dataset(valid)):
            raise ValueError(
                f"train_split must split the training rows in two, or return a Dataset beside them,"
                f" got {self.train_split!r}; pass skorch.dataset.ValidSplit(...),"
                " skorch.helper.predefined_split(dataset), or None to train on every row."
            )
        X, labels = self.read(valid)
        return train, RowDataset(X, row_numbers_of(labels))


def row_numbers_of(labels: np.ndarray) -> np.ndarray:
    """Return what stands for the number of a row that is in no table: its class number, below 0."""
    return -1 - labels


def given_labels(criterion, rows: Tensor) -> Tensor:
    """Return the class numbers (B,) that rows (B,) were given; -1 for rows without a label."""
    rows = to_device(rows, criterion.given.device)
    in_table = rows.clamp_min(0)
    is_known = criterion.has_label(in_table)
    labels = criterion.given[in_table.where(is_known, 0)].where(is_known, -1)
    return labels.where(rows >= 0, -1 - rows)


class HeldOutRows:
    """What an epoch's batches of held-out rows bring: at most `most` rows."""

    def __init__(self, most: int):
        self.most = most
        self.n_rows = 0

    def add(self, logits: Tensor, rows: Tensor) -> None:
        """Add the logits (B, C) of rows (B,)."""
        if not self.n_rows:
            self.logits = logits.new_empty(self.most, logits.shape[1])
            self.rows = rows.new_empty(self.most)
        place = slice(self.n_rows, self.n_rows + len(rows))
        self.logits[place], self.rows[place] = logits, rows
        self.n_rows = place.stop

    def all(self) -> tuple[Tensor, Tensor]:
        """Return the logits (n, C) and the rows (n,)."""
        return self.logits[: self.n_rows], self.rows[: self.n_rows]


class OnHeldOut(Callback):
    """Base of callbacks that judge the held-out rows of an epoch; they define `judge`."""

    def on_train_begin(self, net, **kwargs):
        """Forget an earlier training."""
        self.seen_, self.log_beta_ = None, 0.0

    def on_epoch_begin(self, net, dataset_valid=None, **kwargs):
        """Make room for an epoch: joining batches would need as much again."""
        self.seen_ = None if dataset_valid is None else HeldOutRows(len(dataset_valid))

    def on_batch_end(self, net, batch, training=False, y_pred=None, **kwargs):
        """Gather the logits of held-out rows."""
        if not training:
            self.seen_.add(y_pred.detach().cpu(), batch[1])

    def on_epoch_end(self, net, **kwargs):
        """Judge the epoch."""
        if self.seen_ is not None and self.seen_.n_rows:
            # An error that ends training holds the frames that it passed: no logits are in them.
            self.judge(net, *self._measure(net))

    def _measure(self, net):
        """Return the loss at the best temperature, and the accuracy."""
        logits, rows, criterion = *self.seen_.all(), net.criterion_
        self.seen_ = None
        labels = given_labels(criterion, rows).cpu()
        if (labels < 0).any():
            logits, rows, labels = (part[labels >= 0] for part in (logits, rows, labels))
        rows = to_device(rows, net.device)
        # In float64, which not all devices have.
        weights = criterion.held_out_weights(rows)
        weights = None if weights is None else weights.cpu()
        given = labels if criterion.given_proba is None else criterion.as_given(rows).cpu()
        loss, self.log_beta_ = calibrated_loss(logits, given, weights, self.log_beta_)
        return loss, (logits.argmax(dim=1) == labels).double().mean().item()

    def judge(self, net, loss: float, accuracy: float):
        """Run after each epoch, with the loss at the best temperature and the accuracy."""


class HeldOutScores(OnHeldOut):
    """Record the loss and the accuracy of held-out rows' given labels, under skorch's names.

    The loss is cross-entropy at the temperature that suits it best: epochs of all phases compare.
    Corrected labels make a network confident, which labels that are wrong would punish.
    """

    def on_train_begin(self, net, **kwargs):
        """Forget an earlier training."""
        super().on_train_begin(net, **kwargs)
        self.lowest_, self.highest_ = np.inf, -np.inf

    def judge(self, net, loss, accuracy):
        """Record them, and whether they are the best so far."""
        is_lowest, is_highest = loss < self.lowest_, accuracy > self.highest_
        self.lowest_ = loss if is_lowest else self.lowest_
        self.highest_ = accuracy if is_highest else self.highest_
        found = {"valid_loss": loss, "valid_loss_best": is_lowest}
        found |= {"valid_acc": accuracy, "valid_acc_best": is_highest}
        for name, value in found.items():
            net.history.record(name, value)
