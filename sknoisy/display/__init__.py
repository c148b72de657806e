"""Plots of label noise, in scikit-learn's Display convention; they need matplotlib."""

from sknoisy.display.evidence import EvidenceDisplay
from sknoisy.display.label_issues import LabelIssuesDisplay
from sknoisy.display.noise_matrix import NoiseMatrixDisplay
from sknoisy.display.training import TrainingDisplay

__all__ = ["EvidenceDisplay", "LabelIssuesDisplay", "NoiseMatrixDisplay", "TrainingDisplay"]
