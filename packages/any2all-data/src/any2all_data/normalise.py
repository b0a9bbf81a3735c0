"""Physical values to [0, 1] and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]
FOREGROUND = 0.1  # of the 99th percentile of the volume
PERCENTILE = 99.5  # of the foreground


@dataclass(frozen=True)
class Range:
    """The physical values that are 0 and 1: u = clip((v − low)/(high − low), 0, 1)."""

    low: float
    high: float

    def normalise(self, values: Array) -> Array:
        """To [0, 1]; what lies outside the range saturates."""
        return np.clip((values - self.low) / (self.high - self.low), 0, 1).astype(np.float32)

    def physical(self, normalised: Array) -> Array:
        """v = low + u (high − low), the inverse within the range."""
        return (self.low + normalised * (self.high - self.low)).astype(np.float32)


def mr_scale(volume: Array) -> float:
    """The value that becomes 1: the 99.5th percentile of the foreground of one MR volume.

    Foreground is what exceeds a tenth of the volume's 99th percentile. MR has no unit of its own,
    so this is found anew for every patient and sequence. 0 for an empty volume.
    """
    foreground = volume[volume > FOREGROUND * np.percentile(volume, 99)]
    return float(np.percentile(foreground, PERCENTILE)) if foreground.size else 0.0


MR_NORMALISATION = {
    "method": "clip(volume / scale, 0, 1), scale per patient",
    "scale": f"{PERCENTILE}th percentile of the foreground",
    "foreground": f"above {FOREGROUND} of the volume's 99th percentile",
    "unit": "arbitrary",
}
"""How MR became [0, 1], stored with every prior trained on it."""


def constants(fitted: Range, unit: str) -> dict[str, Any]:
    """How a modality with physical units became [0, 1]: one range for all, of the training group.

    unit: HU, or SUV in g/ml.
    """
    return {
        "method": "clip((value - low) / (high - low), 0, 1)",
        "low": fitted.low,
        "high": fitted.high,
        "fitted_on": "the training group",
        "unit": unit,
    }


def fixed_range(normalisation: Mapping[str, Any] | None) -> Range | None:
    """The range of a modality that has one for all patients, None where each has its own."""
    if normalisation is None or "low" not in normalisation:
        return None
    return Range(float(normalisation["low"]), float(normalisation["high"]))
