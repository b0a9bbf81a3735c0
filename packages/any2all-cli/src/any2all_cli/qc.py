"""Pictures to judge a cohort by at a glance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
from any2all_data.store import Entry
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

COLUMNS = 5
"""Slices shown of a patient."""
EDGE_QUANTILE = 0.95
"""Of the gradient's magnitude: above it a pixel of the reference is an edge."""
MARGIN = 20
PLOT = (420, 220)
BINS = 100


def alignment_sheet(
    patient: str, entry: Entry, modalities: Sequence[str], stack: Tensor
) -> Image.Image:
    """Rows: modalities, then those drawn; columns: slices; in red the first one's edges.

    stack: (Z, M, H, W) in [0, 1].
    """
    depth, count, height, width = stack.shape
    chosen = [round((k + 1) * (depth - 1) / (COLUMNS + 1)) for k in range(COLUMNS)]
    sheet = Image.new("RGB", (COLUMNS * width, count * (height + MARGIN)))
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for m, name in enumerate([*modalities, *entry.drawn]):
        top = m * (height + MARGIN)
        for k, z in enumerate(chosen):
            picture = (255 * stack[z, m]).byte()[..., None].repeat(1, 1, 3)
            if m:
                picture[_edges(stack[z, 0])] = torch.tensor([255, 40, 40], dtype=torch.uint8)
            sheet.paste(Image.fromarray(picture.numpy()), (k * width, top + MARGIN))
        if m >= len(modalities):
            said = f"{name}  DRAWN: SYNTHETIC  {patient}"
        else:
            said = f"{patient}  {name}"
            if name in entry.quality:
                said += f"  registration {entry.quality[name]:.2f}"
            if name in entry.aside:
                said += "  SET ASIDE"
        draw.text((4, top + 2), said, fill="white", font=font)
    return sheet


def histograms(
    stacks: Mapping[str, tuple[Sequence[str], Tensor]], modalities: Sequence[str]
) -> Image.Image:
    """A plot a modality, a line a patient: how often each value in [0, 1] occurs, above 0.02."""
    sheet = Image.new("RGB", (PLOT[0], len(modalities) * PLOT[1]), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for m, name in enumerate(modalities):
        top = m * PLOT[1]
        draw.text((4, top + 2), f"{name}, 0.02 to 1", fill="black", font=font)
        for k, (has, stack) in enumerate(stacks.values()):
            if name not in has:
                continue
            values = stack[:, list(has).index(name)].numpy()
            draw.line(_curve(values, top), fill=f"hsl({k * 137 % 360}, 70%, 40%)")
    return sheet


def _curve(values: npt.NDArray[np.float32], top: int) -> list[tuple[float, float]]:
    counts, _ = np.histogram(values, BINS, (0.02, 1))
    heights = np.sqrt(counts / max(counts.max(), 1)) * (PLOT[1] - 2 * MARGIN)
    bottom = top + PLOT[1] - 5
    return [(k * PLOT[0] / BINS, float(bottom - h)) for k, h in enumerate(heights)]


def _edges(image: Tensor) -> Tensor:
    """(H, W): where the gradient is among the steepest."""
    dy, dx = torch.gradient(image)
    steep = torch.hypot(dy, dx)
    return steep > max(float(steep.quantile(EDGE_QUANTILE)), 0.05)
