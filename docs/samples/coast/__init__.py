"""The sample picture "coast": a fishing village on a bay, late on a summer afternoon.

Rows of plastered houses with clay roofs and a church climb a green hill behind a stone quay; boats lie in the calm
harbour, which mirrors them; a wooded cape and two hazy ranges close the bay under drifting cumulus; a rocky bank with
grass and a stone pine is nearest. Everything is made here, from noise and from polygons:

* ``land`` shapes and colours the ground, a height field; ``sky`` marches clouds through a noise volume,
* ``objects`` builds houses and boats, ``plants`` trees and grass, ``layout`` says where they stand,
* ``walls`` paints the houses' walls, ``surfaces`` everything else that was built,
* ``engine`` finds what each pixel sees, and what the sun and the sky see,
* ``picture`` lights it all and lays the water.

The picture is rendered at twice its size and averaged down.
"""

from .picture import render

__all__ = ["render"]
