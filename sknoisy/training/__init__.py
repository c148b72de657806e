"""One skorch net, its data, and its table of soft labels."""

from sknoisy.functional import BatchLabels
from sknoisy.training.data import BatchLoader, RowDataset
from sknoisy.training.label_callback import LabelCallback
from sknoisy.training.targets import SoftTargetLoss

__all__ = ["BatchLabels", "BatchLoader", "LabelCallback", "RowDataset", "SoftTargetLoss"]
