"""Random changes that keep a slice a plausible slice of another person."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

WARPED = 0.5  # of the slices; interpolation softens, so the others stay as they are


def augment(
    stack: Tensor, generators: Sequence[torch.Generator], in_units: Sequence[bool] | None = None
) -> Tensor:
    """Flip left-right, rotate (±8°), scale (±8 %), shift (±3 %), bend, and change the contrast.

    stack: (B, M, H, W) in [0, 1]; generators: of each slice; all modalities of a slice move
    together, the contrast (a power γ = exp(0.08 z) and a factor 1 − 0.06 u) is drawn for each
    modality, and left alone where ``in_units`` (M,) says that a value means a number of HU or SUV.
    Returns the same shape.
    """
    batch, modalities, height, width = stack.shape

    def rand(*shape: int) -> Tensor:
        return torch.stack([torch.rand(shape, generator=g) for g in generators])

    def randn(*shape: int) -> Tensor:
        return torch.stack([torch.randn(shape, generator=g) for g in generators])

    def uniform(*shape: int) -> Tensor:
        return 2 * rand(*shape) - 1

    flip = rand() < 0.5
    stack = torch.where(flip[:, None, None, None], stack.flip(-1), stack)
    angle = uniform() * math.radians(8)
    scale = 1 + 0.08 * uniform()
    shift = 0.06 * uniform(2, 1)  # the grid spans 2
    cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
    # in the grid's coordinates, of which each side of the image spans 2
    across, down = -sin * height / width, sin * width / height
    rotation = torch.stack([cos, across, down, cos], 1).view(batch, 2, 2)
    grid = F.affine_grid(
        torch.cat([rotation, shift], 2), [batch, modalities, height, width], align_corners=False
    )
    bend = 0.03 * randn(2, 5, 5)
    bend = F.interpolate(bend, (height, width), mode="bicubic", align_corners=True)
    grid = grid + bend.permute(0, 2, 3, 1)
    warped = F.grid_sample(stack, grid, mode="bicubic", align_corners=False)
    chosen = rand() < WARPED
    stack = torch.where(chosen[:, None, None, None], warped, stack).clamp(0, 1)
    gamma = torch.exp(0.08 * randn(modalities, 1, 1))
    factor = 1 - 0.06 * rand(modalities, 1, 1)
    changed = factor * stack.clamp(min=1e-6) ** gamma
    if in_units is None:
        return changed
    return torch.where(torch.tensor(in_units)[:, None, None], stack, changed)
