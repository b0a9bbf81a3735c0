"""Describe in a cohort which physical values become 0 and 1."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from any2all_core.stack_format import Range

Array = npt.NDArray[np.float32]


def constants(fitted: Range, unit: str) -> dict[str, Any]:
    """Describe how a modality with a physical unit becomes [0, 1], as a cohort stores it."""
    return {
        "method": "clip((value - low) / (high - low), 0, 1)",
        "low": fitted.low,
        "high": fitted.high,
        "fitted_on": "the training group",
        "unit": unit,
    }
