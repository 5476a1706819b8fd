"""Compression: a narrow network that paints like its teacher, in closed form, then refined by gradients by hand."""

from .closed_form import LayerError, compress
from .crops import Crops
from .judge import judged_errors
from .refine import Recipe, Refiner, Report

__all__ = ["Crops", "LayerError", "Recipe", "Refiner", "Report", "compress", "judged_errors"]
