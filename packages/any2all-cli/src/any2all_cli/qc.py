"""Contact sheets and histograms for checking a cohort."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from any2all_data.cohort_entry import Entry
from any2all_data.kinds import NO_KINDS, Kinds, kind_of
from any2all_data.registration import quality_threshold
from PIL import Image, ImageDraw, ImageFilter, ImageFont
from torch import Tensor

Slices = npt.NDArray[Any]

AXIAL = 3
"""Axial slices shown of a patient, beside a coronal and a sagittal one."""
PER_MM = 3
"""Pixels of a sheet for a mm, so that an edge that is 1 mm off stands apart from its line."""
AROUND = 8.0
"""mm shown around the head."""
HEAD = 0.05
"""A pixel above this share of full scale is in the head."""
EDGE_QUANTILE = 0.88
"""A pixel of the reference may be an edge above this quantile of the gradient's magnitude."""
STEEP = 0.02
"""Gradient of an edge at least, in the logarithm of the intensity, a pixel."""
SMOOTH = 0.7
"""Standard deviation in mm of what the edges are found in."""
DARK = 0.1
"""Added to the intensity before the logarithm, of full scale."""
MARGIN = 26
PLOT = (420, 220)
BINS = 100
RED = (255, 40, 40)


def alignment_sheet(
    title: str,
    entry: Entry,
    modalities: Sequence[str],
    stack: Tensor,
    *,
    own: Kinds = NO_KINDS,
) -> Image.Image:
    """Draw a patient's contact sheet: one row per modality, with the first one's edges in red.

    The columns are three axial slices, a coronal and a sagittal one, at PER_MM pixels per mm,
    cropped to the head. Drawn modalities come last. ``own`` are the user's kinds. ``stack`` is
    (Z, M, H, W) in [0, 1]; ``entry.affine`` gives the voxel size.
    """
    spacing = np.linalg.norm(np.array(entry.affine)[:3, :3], axis=0)[::-1]  # z, y, x
    cut = _around_head(stack.nan_to_num(0).mean(1).numpy(), spacing)
    volumes = [stack[:, m].nan_to_num(0).numpy()[cut] for m in range(stack.shape[1])]
    reference = [_enlarged(*view) for view in _views(volumes[0], spacing)]
    edges = [_edges(picture) for picture in reference]
    height = max(picture.height for picture in reference) + MARGIN
    width = sum(picture.width for picture in reference)
    sheet = Image.new("RGB", (width, len(volumes) * height))
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(20)
    for m, caption in enumerate(_captions(modalities, entry, own)):
        top, left = m * height, 0
        said = caption + (f"   {title}" if not m else "")
        draw.text((6, top + 2), said, "white", font=font)
        for view, edge in zip(_views(volumes[m], spacing), edges, strict=True):
            picture = np.asarray(_enlarged(*view).convert("RGB")).copy()
            if m:
                picture[edge] = RED
            sheet.paste(Image.fromarray(picture), (left, top + MARGIN))
            left += picture.shape[1]
    bottom = height - 12
    draw.line([(8, bottom), (8 + 10 * PER_MM, bottom)], fill="white", width=3)
    draw.text((14 + 10 * PER_MM, bottom - 12), "10 mm", fill="white", font=font)
    return sheet


def index(pages: Mapping[str, int]) -> str:
    """A page of HTML with all sheets; {patient: number}."""
    sheets = "".join(
        f'<h2 id="{number}">{number}: {patient}</h2><img src="{patient}.png">'
        for patient, number in pages.items()
    )
    head = '<!doctype html><meta charset="utf-8"><title>Contact sheets</title>'
    style = "<style>body{background:#000;color:#fff;font-family:sans-serif}</style>"
    return f'{head}{style}{sheets}<h2>Histograms</h2><img src="histograms.png">\n'


def _captions(modalities: Sequence[str], entry: Entry, own: Kinds) -> list[str]:
    """Return the captions of the rows: the first modality, the others, and the drawn ones."""
    first, *others = modalities
    said = [f"{first}  (its edges are red below)"]
    said += [_registered(name, entry, own) for name in others]
    return said + [f"{name}  DRAWN: SYNTHETIC" for name in entry.drawn]


def _registered(name: str, entry: Entry, own: Kinds) -> str:
    """How well an image was registered."""
    quality = entry.aside.get(name, entry.quality.get(name))
    threshold = quality_threshold((kind_of(name, own), kind_of(entry.reference, own)))
    said = (
        "not registered: already on one grid, or --no-register"
        if quality is None
        else f"registration quality {quality:.2f}, set aside below {threshold:g}"
    )
    return f"{name}  {said}" + ("  SET ASIDE" if name in entry.aside else "")


def _around_head(mean: Slices, spacing: Slices) -> tuple[slice, ...]:
    """The box around what is above HEAD in (Z, H, W), and AROUND mm more."""
    inside = np.argwhere(mean > HEAD)
    if not len(inside):
        return tuple(slice(None) for _ in mean.shape)
    more = np.ceil(AROUND / spacing).astype(int)
    low, high = np.maximum(inside.min(0) - more, 0), inside.max(0) + more + 1
    return tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))


def _views(volume: Slices, spacing: Slices) -> list[tuple[Slices, float, float]]:
    """Planes (rows, columns) of (Z, H, W) with mm between rows and columns; the top is up."""
    z, y, x = spacing
    depth, height, width = volume.shape
    axial = [volume[round((k + 1) * (depth - 1) / (AXIAL + 1))] for k in range(AXIAL)]
    views = [(plane, y, x) for plane in axial]
    views.append((volume[::-1, height // 2], z, x))
    views.append((volume[::-1, :, width // 2], z, y))
    return views


def _enlarged(plane: Slices, row: float, column: float) -> Image.Image:
    """PER_MM pixels a mm, by cubic splines."""
    size = (round(plane.shape[1] * column * PER_MM), round(plane.shape[0] * row * PER_MM))
    picture = Image.fromarray((255 * plane.clip(0, 1)).astype(np.uint8))
    return picture.resize((max(size[0], 1), max(size[1], 1)), Image.Resampling.BICUBIC)


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


def _edges(picture: Image.Image) -> npt.NDArray[np.bool_]:
    """(H, W): lines a pixel wide where a smoothed picture is steep, and steeper than beside.

    On a logarithmic scale, so that the ventricles count beside a bright scalp.
    """
    smooth = picture.filter(ImageFilter.GaussianBlur(SMOOTH * PER_MM))
    image = np.log(np.asarray(smooth, np.float32) / 255 + DARK)
    if min(image.shape) < 3:
        return np.zeros(image.shape, bool)
    dy, dx = np.gradient(image)
    steep = np.hypot(dy, dx)
    beside = np.pad(steep, 1)
    across = np.where(
        np.abs(dx) > np.abs(dy),
        np.maximum(beside[1:-1, :-2], beside[1:-1, 2:]),
        np.maximum(beside[:-2, 1:-1], beside[2:, 1:-1]),
    )
    least = max(float(np.quantile(steep, EDGE_QUANTILE)), STEEP)
    return np.asarray((steep >= across) & (steep > least))
