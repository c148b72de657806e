"""MetaLabelNet: soft labels from a network that learns from a small trusted set."""

from sknoisy.metalabelnet.callback import GenerateLabels
from sknoisy.metalabelnet.classifier import MetaLabelNetClassifier

__all__ = ["GenerateLabels", "MetaLabelNetClassifier"]
