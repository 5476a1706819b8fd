"""Neural style transfer (Gatys, Ecker, Bethge 2015) from scratch on NumPy and CuPy, every gradient by hand."""

from ._version import __version__
from .architecture import Preprocessing, layer_names
from .backend import DeviceError, get_xp
from .carry import carry_weights
from .claims import Claim, FigureCell
from .decode import PictureError, sample_names
from .figures import Figure, content_figure, style_figure, tradeoff_figure
from .gradcheck import KinkError, check_adjoint, check_gradient
from .images import load_image, read_settings, save_image
from .objective import Objective
from .optimize import minimize
from .plan import Plan, plan
from .report import Frames, ReportError, write_report
from .results import Progress, Result
from .runs import Run
from .settings import Settings
from .transfer import reconstruct, texture, transfer
from .vgg import VGG
from .weights import WeightFile, WeightFileError, load_vgg, read_weights, write_weights

__all__ = [
    "VGG",
    "Claim",
    "DeviceError",
    "Figure",
    "FigureCell",
    "Frames",
    "KinkError",
    "Objective",
    "PictureError",
    "Plan",
    "Preprocessing",
    "Progress",
    "ReportError",
    "Result",
    "Run",
    "Settings",
    "WeightFile",
    "WeightFileError",
    "__version__",
    "carry_weights",
    "check_adjoint",
    "check_gradient",
    "content_figure",
    "get_xp",
    "layer_names",
    "load_image",
    "load_vgg",
    "minimize",
    "plan",
    "read_settings",
    "read_weights",
    "reconstruct",
    "sample_names",
    "save_image",
    "style_figure",
    "texture",
    "tradeoff_figure",
    "transfer",
    "write_report",
    "write_weights",
]
