"""Grids, smooth random fields and diffeomorphic warps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter, map_coordinates

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Grid:
    """Voxel centres ``origin + index * spacing`` (x, y, z) in mm: x to the right of the patient,
    y to anterior, z to superior."""

    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    origin: tuple[float, float, float]

    @classmethod
    def around(
        cls, centre: Sequence[float], shape: Sequence[int], spacing: Sequence[float]
    ) -> Grid:
        """Return the grid centred at ``centre`` (mm)."""
        parts = zip(centre, shape, spacing, strict=True)
        x, y, z = (float(c - s * (n - 1) / 2) for c, n, s in parts)
        return cls((shape[0], shape[1], shape[2]), (spacing[0], spacing[1], spacing[2]), (x, y, z))

    @property
    def affine(self) -> npt.NDArray[np.float64]:
        """(4, 4): index to mm."""
        affine = np.diag([*self.spacing, 1.0])
        affine[:3, 3] = self.origin
        return affine

    def points(self) -> Array:
        """Voxel centres (3, X, Y, Z), mm."""
        axes = zip(self.origin, self.shape, self.spacing, strict=True)
        return np.stack(
            np.meshgrid(
                *(
                    np.float32(o) + np.float32(s) * np.arange(n, dtype=np.float32)
                    for o, n, s in axes
                ),
                indexing="ij",
            )
        )

    def finer(self, factor: Sequence[int]) -> Grid:
        """Divide each voxel into ``factor`` (x, y, z) parts."""
        spacing = tuple(s / f for s, f in zip(self.spacing, factor, strict=True))
        origin = [
            o - s / 2 + t / 2 for o, s, t in zip(self.origin, self.spacing, spacing, strict=True)
        ]
        shape = tuple(n * f for n, f in zip(self.shape, factor, strict=True))
        return Grid(shape, spacing, (origin[0], origin[1], origin[2]))  # type: ignore[arg-type]

    def sample(self, volume: Array, points: Array) -> Array:
        """Sample a volume (X, Y, Z) on this grid at points (3, ...), mm: trilinear, edge-padded."""
        index = [
            (p - np.float32(o)) / np.float32(s)
            for p, o, s in zip(points, self.origin, self.spacing, strict=True)
        ]
        return map_coordinates(volume, index, np.float32, order=1, mode="nearest")

    def spread(self, volume: Array, over: Grid) -> Array:
        """Sample a volume at the points of another grid, one axis after the other."""
        for axis in range(3):
            n, x0, step = over.shape[axis], over.origin[axis], over.spacing[axis]
            index = (x0 + step * np.arange(n) - self.origin[axis]) / self.spacing[axis]
            index = np.clip(index, 0, self.shape[axis] - 1)
            low = np.minimum(index.astype(int), self.shape[axis] - 2)
            share = (index - low).astype(np.float32)[(...,) + (None,) * (2 - axis)]
            below, above = volume.take(low, axis), volume.take(low + 1, axis)
            volume = below + share * (above - below)
        return volume


HEAD = Grid((66, 74, 66), (4.0, 4.0, 4.0), (-130.0, -166.0, -122.0))
"""A 4 mm grid around any head for random fields and velocities, whatever the image's grid."""


def smooth_field(rng: np.random.Generator, sigma: float, channels: int = 1) -> Array:
    """Draw white noise on HEAD, blurred by ``sigma`` mm, of variance 1: (channels, X, Y, Z)."""
    noise = rng.standard_normal((channels, *HEAD.shape), dtype=np.float32)
    width = [0.0, *(sigma / s for s in HEAD.spacing)]
    field = gaussian_filter(noise, width, mode="wrap")
    return field / field.std()


def integrate(velocity: Array, squarings: int = 5) -> Array:
    """Displacement u of the diffeomorphism x + u(x) = exp(v)(x), mm, on HEAD (3, X, Y, Z).

    Scaling and squaring: u ← v / 2ⁿ, then n times u(x) ← u(x) + u(x + u(x)) (Arsigny 2006).
    """
    x, u = HEAD.points(), velocity / 2**squarings
    for _ in range(squarings):
        u = u + np.stack([HEAD.sample(component, x + u) for component in u])
    return u


def mean_over(volume: Array, factor: Sequence[int]) -> Array:
    """Return the mean of each block of ``factor`` (x, y, z) voxels."""
    (x, y, z), (a, b, c) = volume.shape, factor
    return volume.reshape(x // a, a, y // b, b, z // c, c).mean((1, 3, 5))
