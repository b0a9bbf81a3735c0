"""The coil maps of a simulated head coil."""

from __future__ import annotations

import torch
from any2all_operators import UserError
from torch import Tensor


def birdcage_maps(coils: int, height: int, width: int) -> Tensor:
    """Simulate the sensitivities of a birdcage coil with SigPy.

    Parameters
    ----------
    coils
        Number of coils, at least 1.
    height, width
        Rows H and columns W of the image.

    Returns
    -------
    Tensor
        Coil maps (coils, H, W), complex64, scaled to Σ_c |s_c|² = 1.

    Raises
    ------
    UserError
        If ``coils`` is below 1, or SigPy is not installed.
    """
    if coils < 1:
        raise UserError(f"coils {coils}: expected at least 1")
    try:
        from sigpy.mri import birdcage_maps as maps
    except ImportError:
        raise UserError(
            "simulated k-space needs SigPy; run pip install 'any2all-mri[kspace]'"
        ) from None
    given = torch.from_numpy(maps((coils, height, width))).to(torch.complex64)
    return given / given.abs().square().sum(0).sqrt()
