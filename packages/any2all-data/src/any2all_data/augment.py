"""Change slices at random, so that they look like slices of other people."""

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

    ``stack`` is (B, M, H, W) in [0, 1], on any device, with one CPU generator per slice. All
    modalities of a slice move together. The contrast (a power γ = exp(0.08 z) and a factor
    1 − 0.06 u) is drawn for each modality, except for those in HU or SUV, which ``in_units`` (M,)
    marks. Returns the same shape.
    """
    batch, modalities, height, width = stack.shape
    device = stack.device

    uniform = torch.stack([torch.rand(6 + modalities, generator=g) for g in generators])
    normal = torch.stack([torch.randn(50 + modalities, generator=g) for g in generators])
    uniform, normal = uniform.to(device), normal.to(device)
    flip, chosen = uniform[:, 0] < 0.5, uniform[:, 1] < WARPED
    angle, scale, *shift = (2 * uniform[:, 2:6] - 1).unbind(1)
    bend, contrast = normal[:, :50].view(batch, 2, 5, 5), normal[:, 50:]

    stack = torch.where(_each(flip), stack.flip(-1), stack)
    angle, scale = angle * math.radians(8), 1 + 0.08 * scale
    cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
    # in the grid's coordinates, of which each side of the image spans 2
    across, down = -sin * height / width, sin * width / height
    rotation = torch.stack([cos, across, down, cos], 1).view(batch, 2, 2)
    moved = 0.06 * torch.stack(shift, 1)[:, :, None]  # the grid spans 2
    grid = F.affine_grid(
        torch.cat([rotation, moved], 2), [batch, modalities, height, width], align_corners=False
    )
    bend = F.interpolate(0.03 * bend, (height, width), mode="bicubic", align_corners=True)
    grid = grid + bend.permute(0, 2, 3, 1)
    warped = F.grid_sample(stack, grid, mode="bicubic", align_corners=False)
    stack = torch.where(_each(chosen), warped, stack).clamp(0, 1)
    gamma = torch.exp(0.08 * contrast)[:, :, None, None]
    factor = 1 - 0.06 * uniform[:, 6:, None, None]
    changed = factor * stack.clamp(min=1e-6) ** gamma
    if in_units is None:
        return changed
    return torch.where(torch.tensor(in_units, device=device)[:, None, None], stack, changed)


def _each(values: Tensor) -> Tensor:
    return values[:, None, None, None]
