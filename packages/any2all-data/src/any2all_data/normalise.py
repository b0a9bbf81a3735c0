"""Physical values to [0, 1] and back."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

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


def normalise(volume: Array, scale: float) -> Array:
    """clip(volume / scale, 0, 1): the brightest half per cent of the foreground saturates."""
    return np.clip(volume / scale, 0, 1).astype(np.float32)


MR_NORMALISATION = {
    "method": "clip(volume / scale, 0, 1), scale per patient",
    "scale": f"{PERCENTILE}th percentile of the foreground",
    "foreground": f"above {FOREGROUND} of the volume's 99th percentile",
    "unit": "arbitrary",
}
"""How MR became [0, 1], stored with every prior trained on it."""
