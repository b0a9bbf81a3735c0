"""Results as lines, and the cells of the tables."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from any2all_eval.challenges import COLUMNS as CHALLENGES
from any2all_eval.perception import COLUMNS as PERCEPTION
from any2all_eval.statistics import Key, Mean, Records, by_patient, difference, key_of, mean_of

METRICS = {
    "psnr": ("PSNR", 2),
    "ssim": ("SSIM", 3),
    "psnr_max": ("PSNR against the slice's maximum", 2),
    "psnr_scaled": ("PSNR at the best scale", 2),
    "ssim_scaled": ("SSIM at the best scale", 3),
    "nmse": ("NMSE", 4),
    "mae": ("MAE", 4),
    "psnr_head": ("PSNR, head", 2),
    "psnr_lesion": ("PSNR, lesion", 2),
    "lpips": ("LPIPS", 3),
    **PERCEPTION,
    **CHALLENGES,
    "coverage": ("coverage of the 90 % interval", 3),
    "interval_factor": ("factor to a coverage of 90 %", 2),
    "spread": ("spread over error", 2),
    "through_plane": ("through-plane error", 3),
}
"""{metric: (what it is called, decimals)}"""
SHOWN = (
    *("psnr", "ssim", "psnr_max", "psnr_scaled", "ssim_scaled", "mae", "psnr_lesion", "lpips"),
    *PERCEPTION,
    *CHALLENGES,
    *("coverage", "interval_factor", "spread", "through_plane"),
)
OVERVIEWS = {
    "PSNR (dB) / SSIM:": ("psnr", "ssim"),
    "PSNR (dB) / SSIM of MR at the best scale of each volume:": ("psnr_scaled", "ssim_scaled"),
}
"""{caption: the two metrics of a cell}"""


@dataclass(frozen=True)
class Line:
    """One row, method and image.

    ``seconds`` per slice is the median over patients, because the first patient includes one-time
    work. ``p`` compares its PSNR with that of the first method of the same row.
    """

    key: Key
    unit: str
    means: dict[str, Mean]
    seconds: float
    residual: float | None
    p: float | None


@dataclass(frozen=True)
class Safety:
    """Lesions of one row, method and image: their number, and their area in mm²."""

    key: Key
    lesions: list[float]
    lost: list[float]
    invented: list[float]
    slices: int


def lines_of(records: Records) -> list[Line]:
    """The lines, in the order of the records."""
    groups: dict[Key, list[Mapping[str, Any]]] = {}
    for record in records:
        groups.setdefault(key_of(record), []).append(record)
    figures = {metric: by_patient(records, metric) for metric in METRICS}
    first: dict[tuple[str, str, str], Key] = {}
    lines = []
    for key, group in groups.items():
        study, row, _, image = key
        reference = first.setdefault((study, row, image), key)
        p = None
        if key != reference:
            p = difference(*(figures["psnr"].get(k, {}) for k in (key, reference))).p
        residuals = [r["residual"] for r in group if "residual" in r]
        lines.append(
            Line(
                key,
                group[0]["unit"],
                {m: mean_of(found[key].values()) for m, found in figures.items() if key in found},
                float(np.median([r["seconds"] for r in group])),
                float(np.mean(residuals)) if residuals else None,
                p,
            )
        )
    return lines


def safety_of(records: Records) -> list[Safety]:
    """The lines of images that were judged against marked lesions."""
    groups: dict[Key, list[Mapping[str, Any]]] = {}
    for record in records:
        if "lesions" in record:
            groups.setdefault(key_of(record), []).append(record)
    return [
        Safety(key, areas(g, "lesions"), areas(g, "lost"), areas(g, "invented"), len(g))
        for key, g in groups.items()
    ]


def areas(records: Sequence[Mapping[str, Any]], name: str) -> list[float]:
    """The areas over all slices."""
    return [area for record in records for area in record[name]]


def header_and_cells(lines: Sequence[Line]) -> tuple[list[str], list[list[str]]]:
    """Header and cells of those metrics in SHOWN that were computed."""
    metrics = [m for m in SHOWN if any(m in line.means for line in lines)]
    header = ["input", "image", "method", *(METRICS[m][0] for m in metrics), "p", "residual"]
    cells = []
    for line in lines:
        _, row, method, image = line.key
        figures = [figure(line, metric) for metric in metrics]
        p = "" if line.p is None or math.isnan(line.p) else f"{line.p:.3f}"
        residual = "" if line.residual is None else f"{line.residual:.2f}"
        cells.append([row, image, method, *figures, p, residual])
    return header, cells


def overviews(lines: Sequence[Line]) -> Iterator[tuple[str, list[str], list[list[str]]]]:
    """(caption, header, cells) of PSNR / SSIM, plain and for MR at the best scale."""
    for caption, metrics in OVERVIEWS.items():
        own = [line for line in lines if all(m in line.means for m in metrics)]
        if own:
            yield caption, *pivot(own, partial(pair_of, metrics=metrics))


def pair_of(line: Line, metrics: Sequence[str]) -> str:
    """22.31 / 0.781"""
    return " / ".join(f"{line.means[m].value:.{METRICS[m][1]}f}" for m in metrics)


def agreement(lines: Sequence[Line]) -> tuple[list[str], list[list[str]]]:
    """Residuals of noisy measurements."""
    return pivot([n for n in lines if n.residual is not None], lambda line: f"{line.residual:.2f}")


def pivot(lines: Sequence[Line], cell: Callable[[Line], str]) -> tuple[list[str], list[list[str]]]:
    """One line per input (and image, if several are judged), one column per method."""
    methods = list(dict.fromkeys(line.key[2] for line in lines))
    found: dict[tuple[str, str, str], dict[str, str]] = {}
    for line in lines:
        study, row, method, image = line.key
        found.setdefault((study, row, image), {})[method] = cell(line)
    judged = Counter((study, row) for study, row, _ in found)
    cells = [
        [row if judged[study, row] == 1 else f"{row}: {image}", *(of.get(m, "") for m in methods)]
        for (study, row, image), of in found.items()
    ]
    return ["input", *methods], cells


def times(lines: Sequence[Line]) -> tuple[list[str], list[list[str]]]:
    """Seconds per slice and image of each method, as the mean over the rows."""
    found: dict[str, list[float]] = {}
    for line in lines:
        found.setdefault(line.key[2], []).append(line.seconds)
    cells = [[method, f"{np.mean(seconds):.2f}"] for method, seconds in found.items()]
    return ["method", "seconds a slice"], cells


def figure(line: Line, metric: str) -> str:
    """33.91 [33.02, 34.71]"""
    mean = line.means.get(metric)
    if mean is None:
        return ""
    if math.isnan(mean.value):
        return "not finite"
    decimals = METRICS[metric][1]
    if metric == "mae" and line.unit != "of [0, 1]":
        decimals = 2
    text = f"{mean.value:.{decimals}f}"
    if not math.isnan(mean.low):
        text += f" [{mean.low:.{decimals}f}, {mean.high:.{decimals}f}]"
    return f"{text} {line.unit}" if metric == "mae" and line.unit != "of [0, 1]" else text
