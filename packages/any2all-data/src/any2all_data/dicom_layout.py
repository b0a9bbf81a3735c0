"""Find the voxel grid of a series by its headers, and whether slices are missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from any2all_data.grid import VoxelGrid
from any2all_data.rules import number

Place = tuple[float, ...]
"""ImagePositionPatient and ImageOrientationPatient as nine numbers."""
FAR_APART = 1.9
"""Smallest ratio of slice distance to slice thickness that means missing slices."""
WIDE = 1.4
"""The same ratio if InstanceNumber also counts in steps."""
LEAST_TILT = 0.5
"""Smallest tilt of a CT's gantry that is reported, in degrees."""


def layout(
    places: Sequence[Place | None], tags: Sequence[Mapping[str, str]]
) -> tuple[VoxelGrid | None, tuple[str, ...]]:
    """Return the grid of slices at ``places``, and sentences on missing slices or a tilt.

    For example, 3 mm thick slices of a 3D series that are 9 mm apart are every third of its slices.
    Slices of a CT with a tilted gantry do not lie along their normal.
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
            f"its gantry was tilted by {tilt:.0f}°; its slices are resampled to a straight grid",
        )
    return grid, said


def _along(places: Sequence[Place]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Return each slice's position along the first one's normal, in mm."""
    table = np.array(places, float)
    normal = np.cross(table[0, 3:6], table[0, 6:9])
    along: np.ndarray[tuple[int], np.dtype[np.float64]] = table[:, :3] @ normal
    return along


def _tilt(places: Sequence[Place]) -> float:
    """Return the angle in degrees between the stacking direction and the first slice's normal."""
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
