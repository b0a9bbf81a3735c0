"""Arrays of a user's own: NumPy or torch, in any precision."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from any2all_operators.errors import UserError

Array = Any
"""A torch tensor, or what ``torch.as_tensor`` takes: a NumPy array, a list of numbers."""
LARGEST = 2.0
"""Images lie in [0, 1]; one that reaches further than this, noise aside, is on another scale."""


def as_tensor(array: Array, what: str) -> Tensor:
    """float32 or complex64, not copied where it is that already. Raises UserError."""
    try:
        tensor = torch.as_tensor(array)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"{what}: {error}; expected an array of numbers") from None
    return tensor.to(torch.complex64 if tensor.is_complex() else torch.float32)


def check_scale(brightest: float, noise_std: float, what: str) -> None:
    """Raise UserError where an image that a measurement shows can't be one in [0, 1]."""
    if brightest > LARGEST + 6 * noise_std:
        raise UserError(
            f"{what} reaches {brightest:.3g}; images lie in [0, 1]. Divide the data and noise_std "
            f"by about {brightest:.3g}, and multiply the result by it"
        )
