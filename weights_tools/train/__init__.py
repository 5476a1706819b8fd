"""Training: a VGG of any width as a classifier of pictures perturbed to mislead it, every gradient by hand."""

from .classifier import Classifier
from .data import DataError, Pictures, read_pictures
from .trainer import Recipe, Report, Stage, State, Trainer, TrainingError, load_state

__all__ = [
    "Classifier",
    "DataError",
    "Pictures",
    "Recipe",
    "Report",
    "Stage",
    "State",
    "Trainer",
    "TrainingError",
    "load_state",
    "read_pictures",
]
