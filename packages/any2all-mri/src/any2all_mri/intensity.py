"""The scale of an MR image, which has no unit of its own."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
FOREGROUND = 0.1  # of the 99th percentile of the volume
PERCENTILE = 99.5  # of the foreground


def mr_scale(volume: Array) -> float:
    """The value that becomes 1: the 99.5th percentile of the foreground of one MR volume.

    Foreground is what exceeds a tenth of the volume's 99th percentile. MR has no unit of its own,
    so this is found anew for every patient and sequence. 0 for an empty volume.
    """
    foreground = volume[volume > FOREGROUND * np.percentile(volume, 99)]
    return float(np.percentile(foreground, PERCENTILE)) if foreground.size else 0.0
