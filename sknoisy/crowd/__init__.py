"""Many people's labels, or those of labelling functions: several votes a row."""

from sknoisy.crowd.crowd_labels import CrowdLabels

__all__ = ["CrowdLabels"]
