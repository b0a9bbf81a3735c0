"""CT of a tilted gantry: slices stacked along the table, not along their normal, made straight."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from any2all_operators import UserError

Array = npt.NDArray[Any]
STRAIGHT = 0.1  # degrees; less is rounding
STEEPEST = 35.0  # degrees; gantries tilt by 30 at most
TAG = 1.0  # degrees by which GantryDetectorTilt may differ from what the slices' places say
UNEVEN = 0.1  # mm by which a slice may leave the line of the others
ROUNDING = 0.01  # pixels
AIR, LEAST = -1000.0, -1024.0  # HU: air, and what below it is padding


def tilt(positions: Array, normal: Array) -> float:
    """Degrees between the normal (3,) and the stack of slices at ``positions`` (N, 3)."""
    along = np.sort(positions @ normal)
    ends = positions[[np.argmin(positions @ normal), np.argmax(positions @ normal)]]
    span = np.linalg.norm(ends[1] - ends[0])
    return float(np.degrees(np.arccos(min(1.0, (along[-1] - along[0]) / span)))) if span else 0.0


def slice_shift(positions: Array, row: Array, column: Array, tag: float | None) -> Array:
    """mm (along a row, along a column) by which each slice is moved against the one before.

    positions: (N, 3) in the order of the slices; row, column: unit vectors (3,); tag:
    GantryDetectorTilt in degrees, if the header has one; its sign is the vendor's, and not asked.

    Raises UserError where the slices don't lie on a line, are tilted more than any gantry is, or
    the header says another tilt.
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
            f"gantry tilt: slices are stacked {degrees:.1f}° off their normal, "
            f"GantryDetectorTilt {abs(tag):.1f}°"
        )
    places = positions @ np.stack([row, column], 1)
    step = (places[-1] - places[0]) / (len(places) - 1)
    line = places[0] + step * np.arange(len(places))[:, None]
    if np.abs(places - line).max() > UNEVEN:
        raise UserError("gantry tilt: slices are shifted unevenly; export the series again")
    return np.asarray(step)


def straightened(slices: Array, shift: Array, fill: float = AIR) -> tuple[Array, Array]:
    """Slices (Z, rows, columns) of a CT in HU, each put where it was, on one field that holds all.

    shift: of each slice against the one before, in pixels (along a row, along a column). Padding
    below LEAST is air, as is what no slice covers; within a slice it is linear interpolation.
    Returns the slices, float32, and where the first pixel of the first slice lies in them
    (column, row).
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
