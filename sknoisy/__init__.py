"""scikit-learn classifiers that train PyTorch networks on labels you do not trust."""

from sknoisy.alr import ALRClassifier
from sknoisy.metalabelnet import MetaLabelNetClassifier
from sknoisy.pipeline import make_noisy_pipeline
from sknoisy.synthetic_mix import SyntheticMixClassifier

__version__ = "0.1.0"

__all__ = [
    "ALRClassifier",
    "MetaLabelNetClassifier",
    "SyntheticMixClassifier",
    "make_noisy_pipeline",
]
