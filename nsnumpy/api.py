"""The public names: what `import nsnumpy as ns` gives."""

from ._version import __version__
from .architecture import Preprocessing, layer_names, receptive_field
from .backend import DeviceError, get_xp
from .files.decode import PictureError
from .files.images import load_image, read_settings, save_image
from .files.samples import sample_names
from .files.weight_sources import WeightFileError
from .files.weights import WeightFile, load_vgg, read_weights, write_weights
from .gradcheck import KinkError, check_adjoint, check_gradient
from .objective import Objective
from .optimize import minimize
from .run.plan import Plan, plan
from .run.results import Progress, Result
from .run.run import Run
from .run.settings import Settings
from .run.shared import StyleTargets
from .study.carry import carry_weights
from .study.features import LayerSheet, feature_sheet, gram_sheet
from .study.figure.claims import Claim, FigureCell
from .study.figure.figure import Figure, content_figure, style_figure, tradeoff_figure
from .study.layers import LayerRow, layer_table
from .study.live import Bar, Live
from .study.report.log import LogError, read_log, write_log_report, write_plot
from .study.report.report import Frames, ReportError, write_report
from .tiles.cluster import Cluster
from .tiles.connect import open_cluster
from .tiles.objective import TiledObjective
from .use_cases import blend, reconstruct, texture, transfer
from .vgg import VGG

__all__ = [
    "VGG",
    "Bar",
    "Claim",
    "Cluster",
    "DeviceError",
    "Figure",
    "FigureCell",
    "Frames",
    "KinkError",
    "LayerRow",
    "LayerSheet",
    "Live",
    "LogError",
    "Objective",
    "PictureError",
    "Plan",
    "Preprocessing",
    "Progress",
    "ReportError",
    "Result",
    "Run",
    "Settings",
    "StyleTargets",
    "TiledObjective",
    "WeightFile",
    "WeightFileError",
    "__version__",
    "blend",
    "carry_weights",
    "check_adjoint",
    "check_gradient",
    "content_figure",
    "feature_sheet",
    "get_xp",
    "gram_sheet",
    "layer_names",
    "layer_table",
    "load_image",
    "load_vgg",
    "minimize",
    "open_cluster",
    "plan",
    "read_log",
    "read_settings",
    "read_weights",
    "receptive_field",
    "reconstruct",
    "sample_names",
    "save_image",
    "style_figure",
    "texture",
    "tradeoff_figure",
    "transfer",
    "write_log_report",
    "write_plot",
    "write_report",
    "write_weights",
]
