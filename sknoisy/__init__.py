"""scikit-learn classifiers that train PyTorch networks on labels you do not trust."""

from sknoisy.alr import ALRClassifier
from sknoisy.synthetic_mix import SyntheticMixClassifier

__version__ = "0.1.0"

__all__ = ["ALRClassifier", "SyntheticMixClassifier"]
