"""Pictures that show at a glance what went in and what came out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from any2all_data.cohort import covered
from any2all_operators import Measurement
from any2all_operators.field_of_view import fit
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

COLUMNS = ("input", "zero-filled", "result", "truth", "error x 5")
ZOOM = 2
MARGIN = 22


def preview(
    measurement: Measurement,
    result: Tensor,
    truth: Mapping[str, Tensor],
    source: Mapping[str, str],
    note: str,
) -> Image.Image:
    """The middle slice that shows a head: a row a modality, COLUMNS side by side.

    result: (B, M, H, W) in [0, 1]; truth: {modality: (B, H, W)} where it is known.
    """
    shown = torch.nonzero(covered(result)).flatten()
    z = int(shown[len(shown) // 2]) if len(shown) else len(result) // 2
    height, width = result.shape[2:]
    rows: list[list[Tensor | None]] = []
    labels: list[str] = []
    for m, (name, operator) in enumerate(measurement.operator.operators.items()):
        data = measurement.data[name][z : z + 1]
        picture = _picture(data) if data.numel() else None
        one = operator.select(torch.tensor([z]))
        zero_filled = one.adjoint(data)[0] if hasattr(one, "acceleration") else None
        image = result[z, m]
        true = truth[name][z] if name in truth else None
        error = None if true is None else 5 * (image - true).abs()
        rows.append([picture, zero_filled, image, true, error])
        labels.append(f"{name}: {source[name]}")
    sheet = Image.new(
        "L", (len(COLUMNS) * width * ZOOM, len(rows) * (height * ZOOM + MARGIN) + MARGIN)
    )
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    for k, title in enumerate(COLUMNS):
        draw.text((k * width * ZOOM + 6, 2), title, fill=255, font=font)
    for r, (row, label) in enumerate(zip(rows, labels, strict=True)):
        top = MARGIN + r * (height * ZOOM + MARGIN)
        for k, cell in enumerate(row):
            if cell is not None:
                sheet.paste(_tile(cell, (width * ZOOM, height * ZOOM)), (k * width * ZOOM, top))
        text = f"{label}{f'   ({note})' if note else ''}"
        draw.text((6, top + height * ZOOM + 2), text, fill=255, font=font)
    return sheet


def contact_sheet(stacks: Tensor, modalities: Sequence[str]) -> Image.Image:
    """Draws (D, M, H, W): a column a draw, a row a modality, eight draws to a band."""
    bands = []
    for band in stacks.split(8):
        rows = [torch.cat(list(band[:, m]), 1) for m in range(len(modalities))]
        picture = torch.cat(rows)
        bands.append(torch.nn.functional.pad(picture, (0, 8 * stacks.shape[3] - picture.shape[1])))
    return _tile(torch.cat(bands), None)


def _picture(data: Tensor) -> Tensor:
    """(1, H, W) of an image as it is; k-space (1, C, H, W) as the logarithm of its magnitude."""
    if not data.is_complex():
        return data[0] if data.ndim == 3 else torch.zeros(1, 1)
    if data.ndim != 4:  # not on a grid
        return torch.zeros(1, 1)
    magnitude = data[0].abs().square().sum(0).sqrt()
    picture = torch.log1p(50 * magnitude) / torch.log1p(50 * magnitude.max())
    return fit(picture, (max(picture.shape), max(picture.shape)))


def _tile(image: Tensor, size: tuple[int, int] | None) -> Image.Image:
    picture = Image.fromarray((image.clamp(0, 1) * 255).round().byte().numpy())
    return picture.resize(size, Image.Resampling.NEAREST) if size else picture
