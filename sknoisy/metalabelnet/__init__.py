"""MetaLabelNet: soft labels from a network that a small trusted set teaches."""

from sknoisy.metalabelnet.callback import GenerateLabels
from sknoisy.metalabelnet.classifier import MetaLabelNetClassifier

__all__ = ["GenerateLabels", "MetaLabelNetClassifier"]
