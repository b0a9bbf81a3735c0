"""Straighten a CT with gantry tilt, whose slices are stacked along the table, not their normal."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from any2all_operators import UserError

Array = npt.NDArray[Any]
STRAIGHT = 0.1  # degrees; a smaller tilt is rounding
STEEPEST = 35.0  # degrees; gantries tilt by 30 at most
TAG = 1.0  # degrees by which GantryDetectorTilt may differ from the tilt of the positions
UNEVEN = 0.1  # mm by which a slice may leave the line of the others
ROUNDING = 0.01  # pixels
AIR, LEAST = -1000.0, -1024.0  # HU of air, and the lowest HU that is not padding


def tilt(positions: Array, normal: Array) -> float:
    """Return the angle in degrees between the normal (3,) and the line of ``positions`` (N, 3)."""
    along = np.sort(positions @ normal)
    ends = positions[[np.argmin(positions @ normal), np.argmax(positions @ normal)]]
    span = np.linalg.norm(ends[1] - ends[0])
    return float(np.degrees(np.arccos(min(1.0, (along[-1] - along[0]) / span)))) if span else 0.0


def slice_shift(positions: Array, row: Array, column: Array, tag: float | None) -> Array:
    """Return the shift of each slice against the one before in mm, along a row and a column.

    ``positions`` is (N, 3) in the order of the slices. ``row`` and ``column`` are unit vectors
    (3,). ``tag`` is GantryDetectorTilt in degrees, if the header has one. Its sign is ignored,
    because vendors differ in it.

    Raises UserError if the slices don't lie on a line, are tilted more than any gantry, or the
    header has another tilt.
    """
    normal = np.cross(row, column)
    degrees = tilt(positions, normal)
    if degrees > STEEPEST:
        raise UserError(
            f"gantry tilt: slices are stacked {degrees:.1f}° off their normal; expected at most "
            f"{STEEPEST:g}°"
        )
    if tag and abs(abs(tag) - degrees) > TAG:
        raise UserError(
            f"gantry tilt: slices are stacked {degrees:.1f}° off their normal, but "
            f"GantryDetectorTilt is {abs(tag):.1f}°; export the series again"
        )
    places = positions @ np.stack([row, column], 1)
    step = (places[-1] - places[0]) / (len(places) - 1)
    line = places[0] + step * np.arange(len(places))[:, None]
    if np.abs(places - line).max() > UNEVEN:
        raise UserError("gantry tilt: slices are shifted unevenly; export the series again")
    return np.asarray(step)


def straightened(slices: Array, shift: Array, fill: float = AIR) -> tuple[Array, Array]:
    """Shift the slices (Z, rows, columns) of a CT in HU to their places in one larger field.

    ``shift`` is that of each slice against the one before, in pixels along a row and a column.
    Slices are interpolated linearly. Padding below LEAST and pixels that no slice covers become
    air. Returns the slices as float32, and the pixel (column, row) of the first slice's first
    pixel.
    """
    from scipy import ndimage

    slices = np.where(slices < LEAST, fill, slices)
    moves = np.arange(len(slices))[:, None] * shift[::-1]  # (Z, 2): rows, columns
    first = np.ceil(-moves.min(0) - ROUNDING).astype(int)
    last = np.ceil(moves.max(0) - ROUNDING).astype(int)
    shape = tuple(np.array(slices.shape[1:]) + first + last)
    straight = [
        ndimage.affine_transform(
            image, np.ones(2), -(first + move), output_shape=shape, order=1, cval=fill
        )
        for image, move in zip(slices, moves, strict=True)
    ]
    return np.stack(straight).astype(np.float32), first[::-1]
