"""What networks see of given images."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor


def planes(chosen: Tensor, like: Tensor) -> Tensor:
    """(B, M), True or False, as constant images (B, M, H, W) of 1 and 0."""
    return chosen[:, :, None, None].to(like.dtype).expand(-1, -1, *like.shape[2:])


def padded(images: Tensor, unit: int) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """Images (B, C, H, W) whose sizes are multiples of ``unit``, and what cuts a result back.

    The edge is repeated on the right and at the bottom, where there is background.
    """
    height, width = images.shape[2:]
    frame = (0, -width % unit, 0, -height % unit)
    return F.pad(images, frame, mode="replicate"), lambda out: out[..., :height, :width]


def mixed(chosen: Tensor, images: Tensor, others: Tensor) -> Tensor:
    """Where chosen, (B, M), the images (B, M, H, W), and the others elsewhere."""
    return torch.where(chosen[:, :, None, None], images, others)
