"""Which physical values become 0 and 1."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from any2all_core.stack_format import Range

Array = npt.NDArray[np.float32]
FOREGROUND = 0.1  # of the 99th percentile of the volume
PERCENTILE = 99.5  # of the foreground


def mr_scale(volume: Array) -> float:
    """The value that becomes 1: the 99.5th percentile of the foreground of one MR volume.

    Foreground is what exceeds a tenth of the volume's 99th percentile. MR has no unit of its own,
    so this is found anew for every patient and sequence. 0 for an empty volume.
    """
    foreground = volume[volume > FOREGROUND * np.percentile(volume, 99)]
    return float(np.percentile(foreground, PERCENTILE)) if foreground.size else 0.0


def constants(fitted: Range, unit: str) -> dict[str, Any]:
    """How a modality with physical units becomes [0, 1], as a cohort keeps it."""
    return {
        "method": "clip((value - low) / (high - low), 0, 1)",
        "low": fitted.low,
        "high": fitted.high,
        "fitted_on": "the training group",
        "unit": unit,
    }
