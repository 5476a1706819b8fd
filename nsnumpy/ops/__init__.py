"""Forward and backward of each layer, as pure functions in adjacent pairs, one source for NumPy and CuPy.

Arrays are channels-last, ``(..., H, W, C)``: any leading axes are a batch. ``x, y`` are an op's input and output,
``gx, gy`` the gradients of a scalar loss with respect to them. No op writes into what it was given, unless it
is told that it may (`overwrite`).

border.py, conv.py, relu.py and pool.py are the definitions. fast/winograd.py and fast/patches.py compute the same maps
faster and in less memory, several ops at a time, and are checked against them.
"""

from .border import BORDERS, ZERO, Border, pad, pad_adjoint
from .conv import conv_backward, conv_backward_weight, conv_forward
from .fast.inner import inner
from .fast.patches import patches_relu_backward, patches_relu_forward, patches_scratch
from .fast.winograd import (
    winograd_backward,
    winograd_backward_weight,
    winograd_forward,
    winograd_relu_backward,
    winograd_relu_forward,
    winograd_scratch,
    winograd_weight,
)
from .pool import avgpool_backward, avgpool_forward, maxpool_backward, maxpool_forward
from .relu import relu_backward, relu_forward

__all__ = [
    "BORDERS",
    "ZERO",
    "Border",
    "avgpool_backward",
    "avgpool_forward",
    "conv_backward",
    "conv_backward_weight",
    "conv_forward",
    "inner",
    "maxpool_backward",
    "maxpool_forward",
    "pad",
    "pad_adjoint",
    "patches_relu_backward",
    "patches_relu_forward",
    "patches_scratch",
    "relu_backward",
    "relu_forward",
    "winograd_backward",
    "winograd_backward_weight",
    "winograd_forward",
    "winograd_relu_backward",
    "winograd_relu_forward",
    "winograd_scratch",
    "winograd_weight",
]
