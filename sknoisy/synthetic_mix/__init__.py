"""SyntheticMix: synthetic samples with soft labels, mixed from nearest neighbors."""

from sknoisy.synthetic_mix.callback import MixNeighbors
from sknoisy.synthetic_mix.classifier import SyntheticMixClassifier

__all__ = ["MixNeighbors", "SyntheticMixClassifier"]
