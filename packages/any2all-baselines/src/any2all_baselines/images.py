"""Layout of given images for networks."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor


def planes(chosen: Tensor, like: Tensor) -> Tensor:
    """Expand a mask (B, M) to constant images (B, M, H, W) of 1 for True and 0 for False."""
    return chosen[:, :, None, None].to(like.dtype).expand(-1, -1, *like.shape[2:])


def padded(images: Tensor, unit: int) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """Pad images (B, C, H, W) to multiples of ``unit``; also returns a function that crops back.

    The edge is repeated on the right and at the bottom, where there is background.
    """
    height, width = images.shape[2:]
    frame = (0, -width % unit, 0, -height % unit)
    return F.pad(images, frame, mode="replicate"), lambda out: out[..., :height, :width]


def mixed(chosen: Tensor, images: Tensor, others: Tensor) -> Tensor:
    """``images`` (B, M, H, W) where ``chosen`` (B, M) is True, and ``others`` elsewhere."""
    return torch.where(chosen[:, :, None, None], images, others)
