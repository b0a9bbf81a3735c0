"""What the headers of a series say of its slices: their grid, and whether some are missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from any2all_data.grid import VoxelGrid
from any2all_data.rules import number

Place = tuple[float, ...]
"""ImagePositionPatient and ImageOrientationPatient, nine numbers."""
FAR_APART = 1.9
"""Distance of slices over their thickness, from which on slices are missing."""
WIDE = 1.4
"""The same, where InstanceNumber counts in steps as well."""
LEAST_TILT = 0.5
"""Degrees of a CT's gantry, from which on it is said."""


def layout(
    places: Sequence[Place | None], tags: Sequence[Mapping[str, str]]
) -> tuple[VoxelGrid | None, tuple[str, ...]]:
    """The grid of slices at ``places``, and sentences on what is unusual in how they lie.

    Slices of a 3D series that are 9 mm apart and 3 mm thick are every third of it; those of a CT
    whose gantry was tilted do not lie along their normal.
    """
    known = [place for place in places if place is not None]
    sides = [number(tags[0], key) for key in ("Columns", "Rows")]
    pixel = [number({"": part}, "") for part in tags[0].get("PixelSpacing", "").split("\\")]
    if len(known) != len(places) or len(known) < 2 or len(pixel) != 2 or None in (*sides, *pixel):
        return None, ()
    along, order = np.unique(np.round(_along(known), 3), return_index=True)
    if len(along) < 2:
        return None, ()
    step = float(np.median(np.diff(along)))
    columns, rows = (int(side or 0) for side in sides)
    down, across = (float(side or 0) for side in pixel)
    volumes = len(known) // len(along)
    shape = (columns, rows, len(along), volumes)[: 3 + (volumes > 1)]
    grid = VoxelGrid(shape, (across, down, step))
    numbers = [number(tags[k], "InstanceNumber") for k in order]
    said = _missing(step, number(tags[0], "SliceThickness"), numbers)
    tilt = _tilt([known[k] for k in order])
    if tags[0].get("Modality") == "CT" and tilt > LEAST_TILT:
        said += (
            f"its gantry was tilted by {tilt:.0f}°; its slices are moved onto a straight grid",
        )
    return grid, said


def _along(places: Sequence[Place]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """mm of each slice along the first one's normal."""
    table = np.array(places, float)
    normal = np.cross(table[0, 3:6], table[0, 6:9])
    along: np.ndarray[tuple[int], np.dtype[np.float64]] = table[:, :3] @ normal
    return along


def _tilt(places: Sequence[Place]) -> float:
    """Degrees between the way from the first slice to the last and the first one's normal."""
    table = np.array(places, float)
    normal = np.cross(table[0, 3:6], table[0, 6:9])
    way = table[-1, :3] - table[0, :3]
    sine = float(np.linalg.norm(np.cross(way, normal)) / np.linalg.norm(way))
    return float(np.degrees(np.arcsin(min(sine, 1.0))))


def _missing(
    step: float, thickness: float | None, numbers: Sequence[float | None]
) -> tuple[str, ...]:
    if not thickness or thickness <= 0:
        return ()
    counts = np.unique(np.abs(np.diff([n for n in numbers if n is not None])))
    comb = int(counts[0]) if len(counts) == 1 and None not in numbers else 1
    ratio = step / thickness
    if ratio < FAR_APART and not (comb > 1 and ratio > WIDE):
        return ()
    counted = f" and its InstanceNumber counts in steps of {comb}" if comb > 1 else ""
    return (
        f"its slices lie {step:.3g} mm apart but are {thickness:.3g} mm thick{counted}: slices are "
        "missing, so export the whole series",
    )
