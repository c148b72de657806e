"""Review of labels by a person: a page to do it on, and what comes back from it."""

from sknoisy.review.corrections import Corrections
from sknoisy.review.interval import Estimate
from sknoisy.review.page import write_page

__all__ = ["Corrections", "Estimate", "write_page"]
