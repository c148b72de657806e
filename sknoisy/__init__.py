"""scikit-learn classifiers that train PyTorch networks on labels you do not trust."""

from sknoisy._version import __version__
from sknoisy.alr import ALRClassifier
from sknoisy.metalabelnet import MetaLabelNetClassifier
from sknoisy.pipeline import make_noisy_pipeline
from sknoisy.synthetic_mix import SyntheticMixClassifier

__all__ = [
    "ALRClassifier",
    "MetaLabelNetClassifier",
    "SyntheticMixClassifier",
    "__version__",
    "make_noisy_pipeline",
]
