"""The sample picture "starry": a swirling night sky in thick oil paint, over a village, hills and cypresses.

The picture is nothing but brush strokes:

* ``brush`` makes strokes along a direction field, thins them out, and paints them with their relief,
* ``plan`` is the composition: outlines, direction fields, and the light and dark of the sky,
* ``picture`` lays the strokes layer over layer, from far to near, large and dark ones first.

Strokes are planned in units of the picture's width, so that every size shows the same ones.
"""

from .picture import render

__all__ = ["render"]
