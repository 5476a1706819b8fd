"""What several runs have in common."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any

from ..files.checkpoint import digest
from ..losses import Sums
from ..targets import StyleTarget, picture_sums, style_target
from ..vgg import VGG


class StyleTargets:
    """What is known of style pictures, each described once by each network at each size, for all runs that share it.

    Give the same one to several runs or use cases, as `targets`. It holds what it has made, a few Gram matrices for
    each picture and size. With ``colors`` "photo" or "luminance", which change the style for each photograph, there is
    nothing to share.

    Examples
    --------
    >>> import nsnumpy as ns
    >>> vgg, targets = ns.load_vgg(), ns.StyleTargets()
    >>> for photo in ("sample:coast", "sample:cutouts"):
    ...     result = ns.transfer(photo, "sample:glass", vgg=vgg, targets=targets, size=32, iterations=1)
    >>> len(targets)
    1
    """

    def __init__(self) -> None:
        self._made: dict[tuple[Hashable, ...], dict[str, Sums]] = {}

    def __len__(self) -> int:
        return len(self._made)

    def of(
        self,
        vgg: VGG,
        pictures: Sequence[tuple[Any, ...]],
        layers: Iterable[str],
        statistics: str,
        sums_of: Callable[..., dict[str, Sums]] = picture_sums,
    ) -> StyleTarget:
        """The target of these pictures, each (picture, weight, region, own) as `style_target` takes them, with its
        errors."""
        network = (vgg.sha256, vgg.pooling, vgg.border, str(vgg.dtype), vgg.xp.__name__)
        layers = tuple(layers)
        described = []
        for picture, weight, _, own in pictures:
            key = (*network, digest(picture), None if own is None else digest(own), layers, statistics)
            if key not in self._made:
                alone = style_target(vgg, [(picture, 1.0, None, own)], layers, statistics, sums_of)
                ((self._made[key], _),) = alone.pictures
            described.append((self._made[key], weight))
        return StyleTarget(statistics, tuple(described), tuple(region for _, _, region, _ in pictures))
