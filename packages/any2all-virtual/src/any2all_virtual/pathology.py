"""Lesions: white matter, microbleeds, calcifications, infarcts."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from any2all_virtual.atlas import Atlas
from any2all_virtual.head import Tissues
from any2all_virtual.shapes import ellipsoid
from any2all_virtual.space import Array
from any2all_virtual.tissues import LESIONS

CHOROID = ((24.0, -42.0, 10.0), (-24.0, -42.0, 10.0), (0.0, -28.0, 2.0))
"""Common calcifications: choroid plexus of both sides and pineal gland; MNI mm."""
PALLIDUM = ((19.0, -4.0, -2.0), (-19.0, -4.0, -2.0))


class Pathology:
    """Paints lesions into tissues and records them.

    ``at`` are the voxels' template coordinates (3, X, Y, Z) in mm. ``share`` is the fraction of
    each voxel by kind of lesion, and ``counts`` the number of lesions of each kind.
    """

    def __init__(self, atlas: Atlas, tissues: Tissues, at: Array, voxel: float) -> None:
        self.atlas, self.tissues, self.points, self.voxel = atlas, tissues, at, voxel
        self.share = {kind: np.zeros_like(at[0]) for kind in LESIONS}
        self.counts = dict.fromkeys(LESIONS, 0)

    def _paint(self, kind: str, tissue: str, occupancy: Array) -> None:
        self.tissues.paint(**{tissue: occupancy})
        self.share[kind] = np.maximum(self.share[kind], occupancy)

    def _blob(self, centre: Array, radii: tuple[float, float, float], texture: Array) -> Array:
        """Return the occupancy of an ellipsoid whose border is made irregular by the texture."""
        x, y, z = (float(c) for c in centre)
        distance = ellipsoid(self.points, (x, y, z), radii) + 0.2 * min(radii) * texture
        return np.clip(0.5 - distance / np.float32(self.voxel), 0, 1)

    def _somewhere(
        self, rng: np.random.Generator, weight: Callable[[Array, Array, Array], Array]
    ) -> Array:
        """Draw a place, in template mm, with probability ∝ weight(place, grey, white).

        It is drawn from the atlas instead of the voxels, so it is the same on every grid.
        """
        box = np.array([[-70, 70], [-105, 70], [-50, 80]])
        places = rng.uniform(box[:, :1], box[:, 1:], (3, 4000)).astype(np.float32)
        grey = self.atlas.fine.sample(self.atlas.grey, places)
        white = self.atlas.fine.sample(self.atlas.white, places)
        cumulative = np.cumsum(weight(places, grey, white), dtype=np.float64)
        return places[:, np.searchsorted(cumulative, rng.random() * cumulative[-1])]

    def white_matter(
        self, rng: np.random.Generator, ventricles: Array, field: Array, load: float
    ) -> None:
        """Caps and bands around the ventricles, and ``load``-many small foci in white matter.

        ventricles: distance from them, mm; field: random, of variance 1; load: 0 to 1.
        """
        white = self.tissues["white"].copy()
        likely = 1.9 * load * np.exp(-np.maximum(ventricles, 0) / (4 + 9 * load)) + 0.22 * field
        likely -= 0.62
        self._paint("white-matter lesion", "lesion", np.clip(4 * likely, 0, 1) * white)
        for _ in range(rng.poisson(22 * load)):
            radius = float(np.clip(rng.lognormal(0.75, 0.4), 1.2, 6))
            radii = (radius, radius * rng.uniform(0.8, 1.6), radius * rng.uniform(0.8, 1.4))
            centre = self._somewhere(
                rng, lambda p, _, white: (white > 0.9) * (p[2] > -10) * (abs(p[0]) > 10)
            )
            focus = self._blob(centre, radii, field)
            self._paint("white-matter lesion", "lesion", 0.85 * focus * white)
            self.counts["white-matter lesion"] += 1

    def microbleeds(self, rng: np.random.Generator, count: int) -> None:
        """Paint spheres of 1 to 2.5 mm radius at the border of grey and white matter."""
        for _ in range(count):
            radius = float(rng.uniform(1.0, 2.5))
            centre = self._somewhere(rng, lambda _, grey, white: grey * white)
            spot = self._blob(centre, (radius, radius, radius), np.zeros(1, np.float32))
            self._paint("microbleed", "bleed", spot)
            self.counts["microbleed"] += 1

    def calcifications(self, rng: np.random.Generator, field: Array, age: float) -> None:
        """Choroid plexus and pineal gland of most, the pallidum of few; age: years."""
        share = np.clip(0.3 + 0.009 * (age - 30), 0.2, 0.85)
        for place, chance in (*((c, share) for c in CHOROID), *((p, 0.06) for p in PALLIDUM)):
            if rng.random() < chance:
                radius = float(rng.uniform(1.5, 4.0))
                centre = np.add(place, rng.normal(0, 1.5, 3))
                spot = self._blob(centre, (radius, 1.4 * radius, radius), 2 * field)
                self._paint("calcification", "calcium", rng.uniform(0.3, 1.0) * spot)
                self.counts["calcification"] += 1

    def infarcts(self, rng: np.random.Generator, field: Array, count: int) -> None:
        """Old infarcts: a liquid cavity in a gliotic rim; deep lacunes, or larger cortical ones."""
        brain = self.tissues["white"] + self.tissues["grey"]

        def cortex(p: Array, grey: Array, white: Array) -> Array:
            return grey * (grey + white > 0.9)

        def depth(p: Array, grey: Array, white: Array) -> Array:
            return (grey + white > 0.95) * np.exp(-np.square(p[0] / 30)) * (p[2] > -12)

        for _ in range(count):
            cortical = rng.random() < 0.35
            centre = self._somewhere(rng, cortex if cortical else depth)
            size = rng.uniform(8, 20) if cortical else rng.uniform(2.5, 6)
            radii = (size, size * rng.uniform(0.7, 1.3), size * rng.uniform(0.7, 1.3))
            rim = self._blob(centre, (radii[0] + 2.5, radii[1] + 2.5, radii[2] + 2.5), field)
            self._paint("infarct", "gliosis", rim * brain)
            self._paint("infarct", "cavity", self._blob(centre, radii, field) * 0.9 * brain)
            self.counts["infarct"] += 1
