"""The scale of an MR image, which has no unit of its own."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
FOREGROUND = 0.1  # of the 99th percentile of the volume
PERCENTILE = 99.5  # of the foreground


def mr_scale(volume: Array) -> float:
    """Return the MR intensity that maps to 1: the 99.5th percentile of the foreground.

    The foreground is every voxel above a tenth of the volume's 99th percentile. MR intensities
    have no unit, so the value is computed for every volume. It is 0 for an empty volume.
    """
    foreground = volume[volume > FOREGROUND * np.percentile(volume, 99)]
    return float(np.percentile(foreground, PERCENTILE)) if foreground.size else 0.0
