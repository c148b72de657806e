"""MetaLabelNet: soft labels from a network that learns from a small trusted set."""

from sknoisy.metalabelnet.callback import CorrectLabels
from sknoisy.metalabelnet.classifier import MetaLabelNetClassifier

__all__ = ["CorrectLabels", "MetaLabelNetClassifier"]
