"""Forward and backward of each layer, as pure functions in adjacent pairs, one source for NumPy and CuPy.

Arrays are channels-last, ``(..., H, W, C)``: any leading axes are a batch. ``x, y`` are an op's input and output,
``gx, gy`` the gradients of a scalar loss with respect to them. No op writes into what it was given.
"""

from .conv import conv_backward, conv_backward_weight, conv_forward
from .pool import avgpool_backward, avgpool_forward, maxpool_backward, maxpool_forward
from .relu import relu_backward, relu_forward

__all__ = [
    "avgpool_backward",
    "avgpool_forward",
    "conv_backward",
    "conv_backward_weight",
    "conv_forward",
    "maxpool_backward",
    "maxpool_forward",
    "relu_backward",
    "relu_forward",
]
