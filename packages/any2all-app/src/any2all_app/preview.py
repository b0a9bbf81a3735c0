"""Draw pictures of a measurement, its result, and unconditional draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from any2all_data.coverage import covered
from any2all_data.metrics import psnr
from any2all_operators.field_of_view import fit
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from any2all_app.measurement import PatientMeasurement
from any2all_app.report_format import ModalityReport

ERROR, SPREAD = "error", "spread"
COLUMNS = ("input", "zero-filled", "result", "truth", ERROR, SPREAD)
ENDS = {ERROR: 0.2, SPREAD: 0.1}
"""The value at the upper end of a column's colours. For images it is 1, the full scale."""
INFERNO = ("000004", "280b54", "65156e", "9f2a63", "d44842", "f57d15", "fac127", "fcffa4")
VIRIDIS = ("440154", "46327e", "365c8d", "277f8e", "1fa187", "4ac16d", "a0da39", "fde725")
GREY = ("000000", "ffffff")
COLOURS = {ERROR: INFERNO, SPREAD: VIRIDIS}
PAPER, INK, EMPTY, FAINT = "#ffffff", "#111111", "#eeeeee", "#666666"
TILE = 200
"""Smallest width of a tile, in pixels."""
LINE, GAP = 24, 6
"""Height of a line of text, and the space between tiles, in pixels."""
ACROSS = 8
"""Number of draws in one band of a contact sheet."""


def preview(
    measurement: PatientMeasurement, draws: Tensor, judged: Mapping[str, ModalityReport]
) -> Image.Image:
    """Show the middle one of the slices with a head, with a row for each modality.

    A column is left out if no row has a picture for it. A cell without a picture gives the reason.
    ``draws`` is (D, B, M, H, W) in [0, 1]. ``judged`` is "modalities" in report.json.
    """
    mean = draws.mean(0)
    shown = torch.nonzero(covered(mean)).flatten()
    z = int(shown[len(shown) // 2]) if len(shown) else len(mean) // 2
    names = measurement.operator.modalities
    rows = {name: _row(measurement, draws, name, z) for name in names}
    columns = [c for c in COLUMNS if any(isinstance(row[c], Tensor) for row in rows.values())]
    height, width = draws.shape[3:]
    zoom = -(-TILE // width)
    tile = (width * zoom, height * zoom)
    step = 2 * LINE + tile[1]
    size = (GAP + len(columns) * (tile[0] + GAP), 2 * LINE + len(rows) * step + 2 * LINE)
    sheet = Image.new("RGB", size, PAPER)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(15)
    place = f"slice {measurement.own_slice(z)} (the lowest is 0)"
    pen.text((GAP, 2), "; ".join(t for t in (place, measurement.note) if t), FAINT, font)
    lefts = {column: GAP + k * (tile[0] + GAP) for k, column in enumerate(columns)}
    for column, left in lefts.items():
        pen.text((left, LINE), column, INK, font)
        _colour_bar(sheet, column, (left, size[1] - 2 * LINE + GAP, tile[0]))
    for k, (name, row) in enumerate(rows.items()):
        top = 2 * LINE + k * step
        said = _row_title(name, measurement, judged[name], row)
        pen.text((GAP, top), said, INK, font)
        for column, left in lefts.items():
            cell, box = row[column], (left, top + LINE)
            if isinstance(cell, Tensor):
                sheet.paste(_coloured(cell, column).resize(tile, Image.Resampling.NEAREST), box)
            else:
                pen.rectangle((*box, left + tile[0] - 1, top + LINE + tile[1] - 1), EMPTY)
                middle = (left + tile[0] / 2, top + LINE + tile[1] / 2)
                pen.text(middle, cell, FAINT, font, anchor="mm")
    return sheet


def contact_sheet(stacks: Tensor, modalities: Sequence[str]) -> Image.Image:
    """Show draws (D, M, H, W): a column per draw, a row per modality, in bands of eight draws."""
    bands = []
    across = min(ACROSS, len(stacks))
    for band in stacks.split(across):
        rows = [torch.cat(list(band[:, m]), 1) for m in range(len(modalities))]
        picture = torch.cat(rows)
        white = across * stacks.shape[3] - picture.shape[1]
        bands.append(torch.nn.functional.pad(picture, (0, white), value=1.0))
    return Image.fromarray((torch.cat(bands).clamp(0, 1) * 255).round().byte().numpy())


def _row(
    measurement: PatientMeasurement, draws: Tensor, name: str, z: int
) -> dict[str, Tensor | str]:
    """Return a picture (H, W) for each of COLUMNS, or the reason why there is none."""
    operator, data = measurement.operator.operators[name], measurement.data[name][z : z + 1]
    m = measurement.operator.modalities.index(name)
    image, given = draws[:, z, m].mean(0), measurement.as_given(name)
    none = "given clean" if given else "missing" if not data.numel() else "no k-space"
    row: dict[str, Tensor | str] = dict.fromkeys(COLUMNS, "given clean")
    row |= {"input": _picture(data), "zero-filled": none, "result": image}
    if data.numel() and not given and hasattr(operator, "acceleration"):
        row["zero-filled"] = operator.select(torch.tensor([z])).adjoint(data)[0]
    if given:
        return row
    truth = measurement.truth.get(name)
    row["truth"] = "not known" if truth is None else truth[z]
    row[ERROR] = "no truth" if truth is None else (image - truth[z]).abs()
    row[SPREAD] = draws[:, z, m].std(0) if len(draws) > 1 else "one draw"
    return row


def _row_title(
    name: str,
    measurement: PatientMeasurement,
    judged: ModalityReport,
    row: Mapping[str, Tensor | str],
) -> str:
    """Return a row's title: FLAIR: simulated from the truth; PSNR 32.9 dB, this slice 33.4 dB."""
    source = measurement.source[name]
    made = "synthesised, not measured" if source == "missing" else source
    said = f"{name}: {'given clean' if measurement.as_given(name) else made}"
    truth, result = row["truth"], row["result"]
    if "score" in judged and isinstance(truth, Tensor) and isinstance(result, Tensor):
        here = float(psnr(result.clamp(0, 1)[None], truth[None]).mean())
        said += f"; PSNR {judged['score']['psnr']:.1f} dB, this slice {here:.1f} dB"
    return said


def _picture(data: Tensor) -> Tensor | str:
    """Return an image (H, W) as it is, or k-space (1, C, H, W) as log-magnitude; else a reason."""
    if not data.numel():
        return "missing"
    if not data.is_complex() and data.ndim == 3:
        return data[0]
    if not data.is_complex() or data.ndim != 4:
        return "not on a grid"
    magnitude = data[0].abs().square().sum(0).sqrt()
    picture = torch.log1p(50 * magnitude) / torch.log1p(50 * magnitude.max())
    return fit(picture, (max(picture.shape), max(picture.shape)))


def _coloured(image: Tensor, column: str) -> Image.Image:
    """Colour an image (H, W) with the colours of a column."""
    share = (image / ENDS.get(column, 1.0)).clamp(0, 1).numpy()
    anchors = np.array([tuple(bytes.fromhex(c)) for c in COLOURS.get(column, GREY)], float)
    places = np.linspace(0, 1, len(anchors))
    channels = [np.interp(share, places, anchors[:, k]) for k in range(3)]
    return Image.fromarray(np.stack(channels, -1).round().astype(np.uint8))


def _colour_bar(sheet: Image.Image, column: str, box: tuple[int, int, int]) -> None:
    """Draw a column's colour bar from 0 to its upper end, at ``box`` (left, top, width)."""
    (left, top, width), end = box, ENDS.get(column, 1.0)
    ramp = torch.linspace(0, end, width).expand(LINE // 2, -1)
    sheet.paste(_coloured(ramp, column), (left, top))
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    below = top + LINE // 2 + 2
    pen.text((left, below), "0", FAINT, font)
    pen.text((left + width / 2, below), "of full scale", FAINT, font, anchor="ma")
    pen.text((left + width, below), f"{end:g}", FAINT, font, anchor="ra")
