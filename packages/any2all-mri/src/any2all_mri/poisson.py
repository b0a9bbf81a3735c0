"""A Poisson disc of k-space samples."""

from __future__ import annotations

import numpy as np
import torch
from any2all_operators import UserError
from torch import Tensor


def poisson_mask(
    height: int, width: int, acceleration: int, acs_lines: int, *, seed: int = 0
) -> Tensor:
    """Draw SigPy's variable-density Poisson-disc mask (H, W): HW/R samples and a full centre."""
    from sigpy.mri import poisson

    if not 2 <= acceleration <= height * width // max(acs_lines, 4) ** 2 // 2:
        raise UserError(
            f"acceleration {acceleration}: a Poisson disc of {height} x {width} with a centre of "
            f"{acs_lines} x {acs_lines} needs 2 to {height * width // max(acs_lines, 4) ** 2 // 2}"
        )
    mask = poisson((height, width), acceleration, calib=(acs_lines, acs_lines), seed=seed)
    return torch.from_numpy(np.abs(mask)).float()
