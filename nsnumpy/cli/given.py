"""What a command that makes a picture is given: settings, pictures, regions and weights, each file read once."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import Any

from ..architecture import Network
from ..files.weights import WeightFile, load_vgg, read_network, read_weights
from ..run.inputs import Inputs
from ..run.plan import Plan, plan
from ..run.settings import layers_of, settings_of
from ..vgg import VGG
from .options import means_in, network_in, settings_in
from .pictures import at_their_sizes, open_pictures
from .regions import region_lines


@dataclass
class Given:
    """What a run is given, each file read once.

    Attributes
    ----------
    settings, layer : dicts
        As the use case takes them.
    sources : dict of Source, or of several with their weights
        The pictures, as they were decoded; once `fit` was called, at the sizes that the run needs.
    weights : WeightFile, or Network
        What was read of the weight file; its shapes alone, once there is a network of it.
    told : list of str
        What is to be told of the regions.
    """

    settings: dict[str, Any]
    layer: dict[str, Any]
    sources: dict[str, Any]
    weights: WeightFile | Network
    told: list[str]

    @classmethod
    def read(cls, arguments: argparse.Namespace) -> Given:
        name = arguments.use_case
        sources, told = open_pictures(arguments, settings_of(name, **settings_in(arguments)))
        layer = {"layer": arguments.layer} if name == "reconstruct" else {}
        return cls(settings_in(arguments), layer, sources, read_weights(arguments.weights), told)

    def size(self, arguments: argparse.Namespace) -> tuple[int, int]:
        """(H, W) of the result."""
        s = settings_of(arguments.use_case, **self.settings).completed(arguments.use_case)
        first = next(iter(self.sources.values()))  # the content, if there is any
        return s.shape((first[0][0] if isinstance(first, list) else first).shape, s.side)

    def fit(self, arguments: argparse.Namespace, *, begins: bool) -> Inputs:
        """What the run takes: the pictures at its sizes, which are known to fit."""
        name = arguments.use_case
        s = settings_of(name, **self.settings).completed(name)
        inputs = Inputs(name, self.sources, s, begins=begins)
        self.sources = at_their_sizes(inputs)
        layers = list(layers_of(name, s)[1])
        self.told += region_lines(inputs, self.weights.architecture, layers)
        return inputs

    def vgg(self, arguments: argparse.Namespace) -> VGG:
        file = self.weights
        assert isinstance(file, WeightFile)  # a run makes its network once
        self.weights = read_network(file, arguments.pooling, arguments.dtype)
        return load_vgg(file, **network_in(arguments))

    def plan(self, arguments: argparse.Namespace) -> Plan:
        given: dict[str, Any] = {**self.sources, **self.layer, **self.settings, "shared": bool(arguments.cluster)}
        given |= network_in(arguments) | means_in(arguments)
        return plan(arguments.use_case, weights=self.weights, **given)
