"""Replace the padding of a CT by air, and refuse values that can't be Hounsfield units."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from any2all_operators import UserError

from any2all_data.normalise import Array
from any2all_data.regions import connected, corners

AIR, LEAST = -1000.0, -1024.0
"""HU of air, and the lowest HU that a CT can measure. Lower values are padding."""
DARKEST, AIR_SHARE = -900.0, 0.5
"""The darkest AIR_SHARE percent of a CT are air, so they lie below DARKEST HU."""
BODY, SOFT, LEAST_SOFT = -500.0, 150.0, 0.5
"""A body lies above BODY HU, and at least the share LEAST_SOFT of it within SOFT HU of water."""
BRIGHT, MOST_BRIGHT = 2000.0, 0.1
"""Bone is brighter than BRIGHT HU in at most the share MOST_BRIGHT of a volume."""
METAL, BESIDE_METAL, MOST_METAL = 4000.0, 1000.0, 0.01
"""Metal lies above METAL HU, next to voxels above BESIDE_METAL HU. It fills at most the share
MOST_METAL of a body."""
SPIKES = 0.05
"""Largest share of the voxels above METAL HU that may be isolated."""
LARGEST = 2**15 - 1
"""Largest HU that fits into DICOM's signed 16 bits."""
LEAST_FRAME = 0.01
"""A constant that is connected to a corner is padding if it fills this share of the volume."""


def hounsfield(values: Array) -> tuple[Array, tuple[str, ...]]:
    """Return HU (x, y, z) with padding as air (-1000 HU), and a sentence on each kind of padding.

    Padding are values below -1024 HU, and a constant that begins in a corner of the volume.

    Raises UserError if the other values can't be the HU of a body in air: signed values were read
    as unsigned, no air lies near -1000 HU, no soft tissue lies near 0 HU, or isolated voxels have
    more than 4,000 HU.
    """
    bright = values > BRIGHT
    if bright.mean() > MOST_BRIGHT:
        raise UserError(
            f"{_percent(bright)} of its values lie above {BRIGHT:g}, up to {values.max():g}, which "
            "is more than bone has: its header says unsigned, but its values are signed. Export it "
            "again as signed integers, with its slope and intercept"
        )
    notes = []
    _check_air(values)
    padded = values < LEAST
    if padded.any():
        notes.append(f"{_percent(padded)} of its voxels lay below {LEAST:g} HU; they are air now")
    for level, frame in _frames(values):
        notes.append(
            f"{_percent(frame)} of its voxels, connected to a corner, were all {level:g}; they are "
            "air now"
        )
        padded |= frame
    body = values[~padded & (values > BODY)]
    _check_tissue(body)
    _check_metal(values, body.size)
    return np.where(padded, np.float32(AIR), values), tuple(notes)


def _check_air(values: Array) -> None:
    measured = values[values >= LEAST]
    darkest = float(np.percentile(measured, AIR_SHARE)) if measured.size else float(values.max())
    if not LEAST <= darkest < DARKEST:
        raise UserError(
            f"its darkest values are about {darkest:g}; expected air near {AIR:g} HU. Apply its "
            "slope and intercept (in DICOM RescaleSlope and RescaleIntercept), or leave it out"
        )


def _check_tissue(body: Array) -> None:
    soft = float((np.abs(body) < SOFT).mean()) if body.size else 0.0
    if soft < LEAST_SOFT:
        raise UserError(
            f"only {100 * soft:.0f} % of the voxels above {BODY:g} HU lie within {SOFT:g} HU of "
            f"water; expected {100 * LEAST_SOFT:.0f} % soft tissue. Check slope and intercept"
        )


def _check_metal(values: Array, body: int) -> None:
    bright = np.argwhere(values > METAL)
    if not len(bright):
        return
    highest = float(values.max())
    if highest > LARGEST or len(bright) > MOST_METAL * body:
        raise UserError(
            f"{len(bright)} voxels lie above {METAL:g} HU, up to {highest:g}; expected metal in at "
            f"most {100 * MOST_METAL:g} % of the body, and nothing above {LARGEST}. Check its "
            "slope, or leave it out"
        )
    most = np.full(len(bright), -np.inf)
    for axis in range(3):
        for step in (-1, 1):
            beside = bright.copy()
            beside[:, axis] = np.clip(beside[:, axis] + step, 0, values.shape[axis] - 1)
            here = (beside != bright).any(1)
            most = np.where(here, np.maximum(most, values[tuple(beside.T)]), most)
    alone = float((most < BESIDE_METAL).mean())
    if alone > SPIKES:
        raise UserError(
            f"{len(bright)} voxels reach up to {highest:g} HU, and {100 * alone:.0f} % of them "
            "are isolated, so they are no metal; mend the file first"
        )


def _frames(values: Array) -> Iterator[tuple[float, npt.NDArray[np.bool_]]]:
    """Yield constants brighter than air that fill the volume from its corners, and their masks."""
    ends = corners(values.shape)
    for level in np.unique(values[ends]):
        if level > DARKEST:
            frame = connected(values == level, ends)
            if frame.mean() > LEAST_FRAME:
                yield float(level), frame


def _percent(there: npt.NDArray[np.bool_]) -> str:
    return f"{100 * float(there.mean()):.2g} %"
