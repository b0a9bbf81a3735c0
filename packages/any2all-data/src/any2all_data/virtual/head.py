"""The head outside the brain, made of ellipsoids and of shells around the cranium.

All shapes are in template space (MNI mm) and are seen through the person's warp.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from any2all_data.virtual.shapes import Triple, blend, ellipsoid
from any2all_data.virtual.space import Array


@dataclass(frozen=True)
class Thickness:
    """Of the layers around the brain, mm; maps of the voxels, smooth."""

    liquid: Array  # between brain and bone
    skull: Array
    table: float  # compact bone on each side of the marrow
    scalp: Array
    fat: Array


class Tissues(dict[str, Array]):
    """Fraction of each tissue in each voxel (X, Y, Z), summing to 1; air at first."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__(air=np.ones(shape, np.float32))

    def paint(self, **occupancy: Array) -> None:
        """Let tissues take ``occupancy`` of every voxel from whatever is there."""
        left = 1 - sum(occupancy.values())
        for fraction in self.values():
            fraction *= left
        for tissue, share in occupancy.items():
            self[tissue] = self.get(tissue, np.float32(0)) + share.astype(np.float32)


def paint_head(
    tissues: Tissues,
    points: Array,
    cranium: Array,
    vault: Array,
    layers: Thickness,
    coarse: Array,
    rough: Array,
    voxel: float,
) -> Array:
    """Everything from the skin to the bone's inside; the cavity is left to the brain.

    points: (3, X, Y, Z) template mm; cranium, vault: signed distances, see Atlas; coarse, rough:
    random maps of variance 1. Returns the cavity's occupancy.
    """
    mirrored = np.stack([abs(points[0]), points[1], points[2]])  # both sides at once
    z = points[2]

    def solid(distance: Array) -> Array:
        return np.clip(0.5 - distance / np.float32(voxel), 0, 1)

    def shape(centre: Triple, radii: Triple, turn: float = 0.0) -> Array:
        return ellipsoid(mirrored, centre, radii, turn)

    inner = cranium - layers.liquid
    canal = ellipsoid(points, (0, -47, -85), (11, 9, 40))
    inner = blend(inner, canal, 6.0)
    base = np.clip((-18 - z) / 15, 0, 1)  # 0 in the vault, 1 in the skull base
    skull = layers.skull * (1 - 0.25 * base)
    outer = blend(inner - 0.6 * skull, vault - layers.liquid - skull, 4.0)

    # skin, fat and muscle
    dome = ellipsoid(points, (0, -19, 6), (79, 101, 86))
    face = ellipsoid(points, (0, 28, -62), (66, 63, 72))
    jaw = ellipsoid(points, (0, 2, -78), (68, 62, 62))
    neck = ellipsoid(points, (0, -38, -125), (64, 68, 95))
    nose = ellipsoid(points, (0, 88, -56), (13, 19, 20))
    ears = np.maximum(shape((82, -26, -32), (5, 17, 30), 25), -shape((90, -18, -36), (5, 9, 14)))
    surface = blend(blend(outer - layers.scalp, dome, 10.0), face, 22.0)
    surface = blend(blend(surface, jaw, 15.0), neck, 25.0)
    surface = blend(blend(surface, nose, 10.0), ears, 4.0)
    body, below_skin, deep = solid(surface), solid(surface + 3), solid(surface + 9)
    tissues.paint(muscle=body)
    between_muscles = np.clip(1.3 - 5 * abs(coarse + 0.3), 0, 1)
    tissues.paint(fat=0.6 * between_muscles * deep * np.clip(-(z + 20) / 15, 0, 1))
    tissues.paint(fat=solid(shape((46, 42, -74), (13, 18, 16))))
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
    for x, z0, size in ((20, -37, 2.4), (41, -37, 2.2), (30, -25, 2.2), (30, -49, 2.4)):
        tissues.paint(muscle=solid(shape((x, 46, z0), (size, 20, size + 1), 8)))
    tissues.paint(white=solid(shape((26, 40, -36), (2.2, 22, 2.2), -20)))
    globe = shape((32, 64, -37), (12, 12, 12))
    tissues.paint(muscle=solid(globe))
    tissues.paint(eye=solid(globe + 1.2))
    tissues.paint(muscle=solid(shape((32, 72, -37), (4.5, 2.2, 4.5))))  # lens

    # skull: compact bone, marrow, the dense and the airy parts of its base
    tissues.paint(bone=solid(shape((38, -27, -40), (26, 9, 9), -35)))
    tissues.paint(bone=solid(shape((56, -40, -46), (12, 15, 20))))
    tissues.paint(bone=solid(ellipsoid(points, (0, -4, -56), (11, 13, 25))))
    tissues.paint(marrow=solid(ellipsoid(points, (0, -4, -56), (8, 10, 22))))
    tissues.paint(bone=solid(outer))
    middle = np.maximum(outer + layers.table, layers.table - inner)
    patchy = np.clip(1 + 0.35 * coarse, 0, 1)
    tissues.paint(marrow=solid(middle) * patchy)

    # air: sinuses, nose, throat, mastoid and ear
    septa = solid(4 * (abs(rough) - 0.35))  # thin walls where the texture is near 0
    tissues.paint(bone=solid(shape((30, 50, -63), (16, 19, 17))))
    tissues.paint(air=solid(shape((30, 50, -63), (14.5, 17.5, 15.5))))
    tissues.paint(mucosa=solid(ellipsoid(points, (0, 58, -62), (17, 34, 24))) * below_skin)
    turbinates = np.clip(0.5 + rough, 0, 1)
    airway = ellipsoid(points, (0, 60, -62), (14, 32, 21))
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
