"""The head outside the brain, made of ellipsoids and of shells around the cranium.

All shapes are in template space (MNI mm) and are seen through the person's warp.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from any2all_virtual.shapes import Triple, blend, ellipsoid
from any2all_virtual.space import Array

MUSCLES: tuple[tuple[Triple, Triple, float], ...] = (
    ((55, 14, -80), (10, 19, 28), 0),  # masseter
    ((54, 22, -42), (9, 21, 26), 15),  # temporal
    ((38, 10, -56), (15, 14, 9), 0),  # lateral pterygoid
    ((32, 2, -80), (9, 16, 24), 20),  # medial pterygoid
    ((10, -15, -78), (10, 8, 30), 0),  # before the spine
    ((54, -42, -88), (11, 15, 34), 20),  # sternocleidomastoid
    ((15, -72, -90), (15, 14, 38), 0),  # back of the neck, inner
    ((36, -62, -88), (14, 11, 36), -30),  # back of the neck, outer
)
"""Centre and radii, mm, and turn about z, degrees, on the right; the same on the left."""
EYE_MUSCLES = ((20, -37, 2.4, 5.0), (41, -37, 2.2, 5.0), (30, -25, 5.0, 2.2), (30, -49, 5.0, 2.4))
"""x and z of the middle, radii in x and z, mm."""


@dataclass(frozen=True)
class Thickness:
    """Thickness of the layers around the brain, in mm: smooth maps over the voxels."""

    liquid: Array  # between brain and bone
    skull: Array
    table: float  # compact bone on each side of the marrow
    scalp: Array
    fat: Array


@dataclass(frozen=True)
class Voxels:
    """The voxels of an image in template space.

    ``at``: (3, X, Y, Z) mm; ``cranium``, ``vault``: signed distances in mm, see Atlas; ``size``:
    mean side in mm.
    """

    at: Array
    cranium: Array
    vault: Array
    size: float


class Tissues(dict[str, Array]):
    """Fraction of each tissue in each voxel (X, Y, Z). They sum to 1 and start as air."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__(air=np.ones(shape, np.float32))

    def paint(self, **occupancy: Array) -> None:
        """Replace the fraction ``occupancy`` of every voxel by these tissues."""
        left = 1 - sum(occupancy.values())
        for fraction in self.values():
            fraction *= left
        for tissue, share in occupancy.items():
            self[tissue] = self.get(tissue, np.float32(0)) + share.astype(np.float32)


def paint_head(
    tissues: Tissues, voxels: Voxels, layers: Thickness, *, coarse: Array, rough: Array
) -> Array:
    """Paint the head from the skin to the inner table of the skull.

    ``coarse`` and ``rough`` are random maps of variance 1. Returns the occupancy of the cranial
    cavity, in which the brain is painted later.
    """
    points = voxels.at
    mirrored = np.stack([abs(points[0]), points[1], points[2]])  # both sides at once
    z = points[2]

    def solid(distance: Array) -> Array:
        return np.clip(0.5 - distance / np.float32(voxels.size), 0, 1)

    def shape(centre: Triple, radii: Triple, turn: float = 0.0) -> Array:
        return ellipsoid(mirrored, centre, radii, turn)

    inner = voxels.cranium - layers.liquid
    canal = ellipsoid(points, (0, -47, -85), (11, 9, 40))
    inner = blend(inner, canal, 6.0)
    base = np.clip((-18 - z) / 15, 0, 1)  # 0 in the vault, 1 in the skull base
    temple = np.clip((mirrored[0] - 30) / 25, 0, 1)  # thin bone under the temporal muscle
    temple *= np.exp(-np.square((points[1] - 12) / 32) - np.square((z + 12) / 32))
    skull = layers.skull * (1 - 0.25 * base) * (1 - 0.4 * temple)
    outer = blend(inner - 0.6 * skull, voxels.vault - layers.liquid - skull, 4.0)

    # skin, fat and muscle
    dome = ellipsoid(points, (0, -19, 6), (79, 101, 86))
    face = ellipsoid(points, (0, 28, -62), (66, 63, 72))
    jaw = ellipsoid(points, (0, 2, -78), (68, 62, 62))
    neck = ellipsoid(points, (0, -38, -125), (64, 68, 95))
    nose = ellipsoid(points, (0, 88, -56), (13, 19, 20))
    ears = np.maximum(shape((80, -26, -34), (4, 14, 27), 15), -shape((86, -20, -36), (5, 8, 13)))
    scalp = layers.scalp + 7 * temple
    surface = blend(blend(outer - scalp, dome, 10.0), face, 22.0)
    surface = blend(blend(surface, jaw, 15.0), neck, 25.0)
    surface = blend(blend(surface, nose, 10.0), ears, 4.0)
    body, below_skin, deep = solid(surface), solid(surface + 3), solid(surface + 9)
    tissues.paint(muscle=body)
    loose = np.clip(0.25 + 0.25 * coarse, 0, 1)  # fat and fascia between the muscles
    tissues.paint(fat=loose * deep * np.clip(-(z + 25) / 15, 0, 1))
    tissues.paint(fat=solid(shape((46, 42, -74), (13, 18, 16))))
    muscles = [shape(*muscle) for muscle in MUSCLES]
    tissues.paint(muscle=0.95 * solid(np.minimum.reduce(muscles) + 0.8 * rough) * deep)
    tissues.paint(fat=solid(-surface - layers.fat * (1 + 0.7 * base)) * body)
    tissues.paint(skin=solid(-surface - 2.2) * body)

    # face: jaw, cheek bones, orbits with their eyes
    tissues.paint(bone=solid(shape((50, 4, -80), (3.5, 15, 28))) * deep)
    tissues.paint(bone=solid(abs(shape((48, 40, -50), (18, 20, 18))) - 1.0) * (z > -62) * deep)
    tissues.paint(bone=solid(ellipsoid(points, (0, 60, -90), (27, 26, 12))) * deep)
    orbit = shape((29, 50, -37), (18, 27, 17), 12)
    behind_rim = np.clip((72 - points[1]) / 4, 0, 1)
    tissues.paint(bone=solid(orbit - 2.5) * deep * behind_rim)
    tissues.paint(fat=solid(orbit) * below_skin)
    for x, z0, width, height in EYE_MUSCLES:
        tissues.paint(muscle=solid(shape((x, 46, z0), (width, 20, height), 8)))
    tissues.paint(white=solid(shape((26, 40, -36), (2.6, 22, 2.6), -20)))
    globe = shape((32, 64, -37), (12, 12, 12))
    tissues.paint(muscle=solid(globe))
    tissues.paint(eye=solid(globe + 1.2))
    tissues.paint(muscle=solid(shape((32, 72, -37), (4.5, 2.2, 4.5))))  # lens

    # skull: compact bone, marrow, the dense and the airy parts of its base
    tissues.paint(bone=solid(shape((38, -27, -40), (26, 9, 9), -35)))
    tissues.paint(bone=solid(shape((56, -40, -46), (12, 15, 20))))
    clivus = ellipsoid(points, (0, -4, -56), (15, 10, 25)) + 2 * coarse
    tissues.paint(bone=solid(clivus))
    tissues.paint(marrow=solid(clivus + 2.5))
    tissues.paint(bone=solid(outer))
    middle = np.maximum(outer + layers.table, layers.table - inner)
    patchy = np.clip(1 + 0.35 * coarse, 0, 1)
    tissues.paint(marrow=solid(middle) * patchy)
    tissues.paint(blood=solid(shape((12, 1, -33), (5, 13, 8))))  # cavernous sinus
    tissues.paint(mucosa=solid(ellipsoid(points, (0, 3, -31), (8, 7, 6))))  # pituitary gland

    # air: sinuses, nose, throat, mastoid and ear
    septa = solid(4 * (abs(rough) - 0.35))  # thin walls where the texture is near 0
    tissues.paint(bone=solid(shape((30, 50, -63), (16, 19, 17))))
    tissues.paint(air=solid(shape((30, 50, -63), (14.5, 17.5, 15.5))))
    tissues.paint(mucosa=solid(ellipsoid(points, (0, 58, -62), (17, 34, 24))) * below_skin)
    turbinates = np.clip(0.5 + rough, 0, 1)
    airway = ellipsoid(points, (0, 60, -62), (14, 32, 21)) + 1.5 * coarse
    tissues.paint(air=solid(airway) * turbinates * below_skin)
    tissues.paint(bone=solid(ellipsoid(points, (0, 50, -37), (13, 22, 14))))
    tissues.paint(air=solid(ellipsoid(points, (0, 50, -37), (11.5, 20, 12.5))) * (1 - septa))
    tissues.paint(bone=solid(abs(points[0]) - 1.2) * solid(airway) * deep)
    tissues.paint(bone=solid(shape((9, 18, -41), (11, 13, 11))))
    tissues.paint(air=solid(shape((8, 18, -41), (8, 11, 9))))
    tissues.paint(bone=solid(shape((8, 75, -19), (11, 6, 11))) * below_skin)
    tissues.paint(air=solid(shape((8, 75, -19), (8, 3.5, 8)) + coarse))
    tissues.paint(air=solid(ellipsoid(points, (0, 12, -76), (13, 11, 16))))
    tissues.paint(air=solid(shape((57, -42, -48), (9, 11, 15))) * np.clip(0.4 + rough, 0, 1))
    tissues.paint(air=solid(shape((72, -24, -40), (18, 3, 3))))
    return solid(inner)
