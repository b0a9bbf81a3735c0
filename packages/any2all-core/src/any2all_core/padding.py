"""Padding of images to sizes that a network can halve."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor


def mirrored(images: Tensor, multiple: int) -> tuple[Tensor, tuple[Any, ...]]:
    """Pad images (B, M, H, W) by reflection to multiples of ``multiple``.

    The second result is the index of the given images in the padded ones. Images of the right size
    are returned unchanged. Sizes below about a third of ``multiple`` cannot be padded.
    """
    height, width = images.shape[2:]
    top, left = -height % multiple // 2, -width % multiple // 2
    inside = (..., slice(top, top + height), slice(left, left + width))
    bottom, right = -height % multiple - top, -width % multiple - left
    if bottom or right:
        images = F.pad(images, (left, right, top, bottom), mode="reflect")
    return images, inside
