"""Signed distances to ellipsoids, masks and unions, in mm, negative inside."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.ndimage import distance_transform_edt

from any2all_virtual.space import Array

Triple = tuple[float, float, float]


def ellipsoid(points: Array, centre: Triple, radii: Triple, turn: float = 0.0) -> Array:
    """Return the approximate signed distance (mm) of points (3, X, Y, Z), negative inside.

    ``turn`` is the rotation about z in degrees, from x towards y.
    """
    x, y, z = (p - np.float32(c) for p, c in zip(points, centre, strict=True))
    if turn:
        cos, sin = np.float32(np.cos(np.radians(turn))), np.float32(np.sin(np.radians(turn)))
        x, y = cos * x + sin * y, cos * y - sin * x
    a, b, c = (np.float32(r) for r in radii)
    near = np.sqrt((x / a) ** 2 + (y / b) ** 2 + (z / c) ** 2)
    slope = np.sqrt((x / a**2) ** 2 + (y / b**2) ** 2 + (z / c**2) ** 2)
    return near * (near - 1) / np.maximum(slope, np.float32(1e-6))


def blend(a: Array, b: Array, width: float) -> Array:
    """Return the union of two signed distances, rounded over ``width`` mm where they meet."""
    overlap = np.maximum(width - abs(a - b), 0) / width
    return np.minimum(a, b) - np.float32(width / 4) * overlap**2


def signed_distance(inside: npt.NDArray[np.bool_], spacing: float) -> Array:
    """Return the distance to the surface of a mask (X, Y, Z) of cubic voxels of ``spacing`` mm."""
    outside = distance_transform_edt(~inside, sampling=spacing)
    within = distance_transform_edt(inside, sampling=spacing)
    return (outside - within).astype(np.float32)
