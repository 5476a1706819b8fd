"""A still life by a window, made to pass for a photograph: fruit, a blue-white bowl, a jug and a bottle on a table.

What it shows: a blue-white bowl heaped with apples, oranges and a pear stands on a checked linen cloth that hangs over
the edge of a wooden table; a glazed jug and a labelled green bottle stand behind it, lemons, an apple, grapes and a
knife lie about, and daylight from a window on the left falls across it all onto a plaster wall.

How it is built:

* ``raymarch`` finds where rays meet solids that are given by signed distance functions,
* ``shapes`` are the solids that stand on the table, ``table`` is its edge and the cloth over it,
* ``materials`` are the colours and bumps of all of these, ``placement`` puts the two together and in their places,
* ``light`` follows the light of the window, the sun and the room, by way of mirrors and of the bottle's glass,
* ``picture`` sends out the camera's rays, and makes a photograph of the light that they bring in.

One scene unit is about 10 cm; x points right, y away from the camera, z up, and the table top is z = 0.
"""

from .picture import render

__all__ = ["render"]
