"""The layers of a network as a table: what each makes of a picture, how much of it one position sees, what it costs."""

from __future__ import annotations

from dataclasses import dataclass

from ..architecture import Network, layer_names, layer_shape, minimum_size, receptive_field
from ..vgg import VGG


@dataclass(frozen=True)
class LayerRow:
    """A layer of a network.

    Attributes
    ----------
    name : str
    shape : (H, W, N)
        Of its features: positions and filters. H or W is 0 where the picture is too small for the layer.
    receptive_field : int
        The side of the square of the picture that one position sees, in pixels.
    stride : int
        How many pixels lie from one position to the next.
    parameters : int
        Weights and biases; a pooling has none.
    """

    name: str
    shape: tuple[int, int, int]
    receptive_field: int
    stride: int
    parameters: int


def layer_table(network: VGG | Network, size: tuple[int, int] = (512, 512)) -> list[LayerRow]:
    """The layers that a network has, in order.

    Parameters
    ----------
    network : VGG
    size : (H, W), in pixels
        Of the picture.

    Examples
    --------
    >>> import nsnumpy as ns
    >>> row = ns.layer_table(ns.load_vgg())[-1]
    >>> row.name, row.shape, row.receptive_field, row.stride
    ('conv5_1', (32, 32, 384), 132, 16)
    """
    rows: list[LayerRow] = []
    channels = 3
    for name in layer_names(network.architecture):
        parameters = 0
        if name.startswith("conv"):
            if name not in network.filters:
                break
            filters = network.filters[name]
            parameters, channels = (9 * channels + 1) * filters, filters
        shape = layer_shape(network.architecture, network.filters, name, size)
        stride = minimum_size(network.architecture, [name])  # a picture of one position
        rows.append(LayerRow(name, shape, receptive_field(network.architecture, name), stride, parameters))
    return rows
