"""Arrays that a user passes in: NumPy or torch, in any precision."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from any2all_operators.errors import UserError

Array = Any
"""A torch tensor, or anything that ``torch.as_tensor`` takes: a NumPy array, a list of numbers."""
LARGEST = 2.0
"""Images lie in [0, 1]. An image above this value, noise aside, is taken to be on another scale."""


def as_tensor(array: Array, what: str) -> Tensor:
    """Convert an array to a tensor of float32 or complex64.

    Parameters
    ----------
    array
        Numbers of any shape and precision. A tensor of the right type is not copied.
    what
        Name of the array in the error message.

    Returns
    -------
    Tensor
        The same shape; complex64 if the array is complex, otherwise float32.

    Raises
    ------
    UserError
        If the array does not hold numbers.
    """
    try:
        tensor = torch.as_tensor(array)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"{what}: {error}; expected an array of numbers") from None
    return tensor.to(torch.complex64 if tensor.is_complex() else torch.float32)


def check_scale(brightest: float, noise_std: float, what: str) -> None:
    """Raise UserError if the measured image is too bright to lie in [0, 1]."""
    if brightest > LARGEST + 6 * noise_std:
        raise UserError(
            f"{what} reaches {brightest:.3g}; images lie in [0, 1]. Divide the data and noise_std "
            f"by about {brightest:.3g}, and multiply the result by it"
        )
