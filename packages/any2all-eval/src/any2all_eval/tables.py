"""Results as tables to read."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from any2all_eval.challenges import COLUMNS as CHALLENGES
from any2all_eval.claims import Claim, Step, said
from any2all_eval.generation import Generation
from any2all_eval.perception import COLUMNS as PERCEPTION
from any2all_eval.statistics import Key, Mean, Records, by_patient, difference, key_of, mean_of
from any2all_eval.study import Study

METRICS = {
    "psnr": ("PSNR", 2),
    "ssim": ("SSIM", 3),
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
    "spread": ("spread over error", 2),
    "through_plane": ("through-plane error", 3),
}
"""{metric: (what it is called, decimals)}"""
SHOWN = (
    *("psnr", "ssim", "psnr_scaled", "ssim_scaled", "mae", "psnr_lesion", "lpips"),
    *PERCEPTION,
    *CHALLENGES,
    *("coverage", "spread", "through_plane"),
)
OVERVIEWS = {
    "PSNR (dB) / SSIM:": ("psnr", "ssim"),
    "PSNR (dB) / SSIM of MR at the best scale of each volume:": ("psnr_scaled", "ssim_scaled"),
}
"""{caption: the two metrics of a cell}"""


@dataclass(frozen=True)
class Line:
    """One row, method and image. ``p``: of its PSNR against the first method's of the same row."""

    key: Key
    unit: str
    means: dict[str, Mean]
    seconds: float
    residual: float | None
    p: float | None


@dataclass(frozen=True)
class Safety:
    """Lesions of one row, method and image: how many, and of what area in mm²."""

    key: Key
    lesions: list[float]
    lost: list[float]
    invented: list[float]
    slices: int


def lines_of(records: Records) -> list[Line]:
    """In the order of the records."""
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
                float(np.mean([r["seconds"] for r in group])),
                float(np.mean(residuals)) if residuals else None,
                p,
            )
        )
    return lines


def safety_of(records: Records) -> list[Safety]:
    """Of what was judged against marked lesions."""
    groups: dict[Key, list[Mapping[str, Any]]] = {}
    for record in records:
        if "lesions" in record:
            groups.setdefault(key_of(record), []).append(record)
    return [
        Safety(key, areas(g, "lesions"), areas(g, "lost"), areas(g, "invented"), len(g))
        for key, g in groups.items()
    ]


def areas(records: Sequence[Mapping[str, Any]], name: str) -> list[float]:
    """Of all slices."""
    return [area for record in records for area in record[name]]


def header_and_cells(lines: Sequence[Line]) -> tuple[list[str], list[list[str]]]:
    """Of the metrics in SHOWN that were measured."""
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
    """(caption, header, cells) of PSNR / SSIM as they are, and of MR at the best scale."""
    for caption, metrics in OVERVIEWS.items():
        own = [line for line in lines if all(m in line.means for m in metrics)]
        if own:
            yield caption, *pivot(own, partial(pair_of, metrics=metrics))


def pair_of(line: Line, metrics: Sequence[str]) -> str:
    """22.31 / 0.781"""
    return " / ".join(f"{line.means[m].value:.{METRICS[m][1]}f}" for m in metrics)


def agreement(lines: Sequence[Line]) -> tuple[list[str], list[list[str]]]:
    """Residuals of what was measured with noise."""
    return pivot([n for n in lines if n.residual is not None], lambda line: f"{line.residual:.2f}")


def pivot(lines: Sequence[Line], cell: Callable[[Line], str]) -> tuple[list[str], list[list[str]]]:
    """A line an input (and image, where several are judged), a column a method."""
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
    """Of each method: seconds a slice and image, the mean over the rows."""
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


NOTE = (
    "Means over patients of means over slices, with the bootstrap 95 % interval over patients. "
    "p: Wilcoxon signed-rank of PSNR against the first method of the same input. At the best "
    "scale: a volume is multiplied by the one factor that minimises its squared error; of MR only, "
    "as MR has no unit. copy: a given MR image, unchanged, is taken as the missing one; of several "
    "the one with the best PSNR on val."
)
BEATEN = "Beside simple references"
AGREEMENT = "Agreement with the measurement"
NOT_SAFETY = (
    "Agreement says that a result fits what was measured, not that the rest of it is right."
)
RESIDUAL = (
    "RMS of y - A x over the standard deviation of the noise: about 1 where a result agrees with "
    "its measurement, less where it fits the noise, too."
)


def markdown(
    studies: Sequence[Study],
    lines: Sequence[Line],
    claims: Sequence[Claim],
    safety: Sequence[Safety],
    made: Mapping[str, Generation],
    beaten: tuple[str, Sequence[str]],
) -> str:
    """Every table of the report; last the times, which no two runs share.

    beaten: how many results a simple reference beats, and a sentence for each of them.
    """
    parts = []
    if lines:
        count, sentences = beaten
        parts += [f"## {BEATEN}\n", f"{count}\n", *(f"- {text}" for text in sentences), ""]
    if any(line.residual is not None for line in lines):
        parts += [f"## {AGREEMENT}\n", f"{RESIDUAL}\n", *markdown_table(*agreement(lines)), ""]
    if safety:
        header = ["input", "image", "method", "lesions", "lost", "mm² of each", "invented", "mm²"]
        parts += [
            "## Lesions lost and invented\n",
            *markdown_table(header, map(counts, safety)),
            "",
        ]
    if lines:
        parts += ["## The paper's claims\n", *claim_lines(claims), ""]
    for study in studies:
        own = [line for line in lines if line.key[0] == study.name]
        if not own:
            continue
        parts.append(f"## {study.title}\n")
        for caption, header, cells in overviews(own):
            parts += [f"{caption}\n", *markdown_table(header, cells), ""]
        parts += ["<details><summary>All metrics</summary>\n"]
        parts += [*markdown_table(*header_and_cells(own)), f"\n{NOTE}\n\n</details>\n"]
    for name, found in made.items():
        parts += [f"## Stacks from {name}\n", *markdown_table(*generation_lines(found)), ""]
    if lines:
        parts += ["## Time\n", *markdown_table(*times(lines)), ""]
    return "\n".join(parts)


def markdown_table(header: Sequence[str], cells: Iterable[Sequence[str]]) -> list[str]:
    rows = ([cell.replace("|", "\\|") for cell in row] for row in cells)
    return [f"| {' | '.join(row)} |" for row in (header, ["---"] * len(header), *rows)]


def counts(entry: Safety) -> list[str]:
    """Its line of the table."""
    _, row, method, image = entry.key
    lost, invented = (" ".join(f"{a:.0f}" for a in areas) for areas in (entry.lost, entry.invented))
    figures = [len(entry.lesions), len(entry.lost), lost, len(entry.invented), invented]
    return [row, image, method, *map(str, figures)]


def generation_lines(found: Generation) -> tuple[list[str], list[list[str]]]:
    """Distances of draws beside those of real slices."""
    near = [
        " / ".join(f"{q:.4f}" for q in quantiles)
        for quantiles in (found.nearest_draws, found.nearest_held_out)
    ]
    header = [
        f"{found.slices} slices a set",
        "Fréchet distance (not FID)",
        "nearest training slice",
        *found.by_network,
    ]
    lines = [
        ["other half of the training people", f"{found.frechet_halves:.2f}", ""],
        ["people held out", f"{found.frechet_held_out:.2f}", near[1]],
        [f"{found.draws} draws", f"{found.frechet_draws:.2f}", near[0]],
    ]
    by_network = [[f"{of[k]:.1f}" for of in found.by_network.values()] for k in range(3)]
    return header, [line + more for line, more in zip(lines, by_network, strict=True)]


def claim_lines(claims: Sequence[Claim]) -> list[str]:
    """A paragraph a claim, with its figures."""
    found = []
    for claim in claims:
        found.append(f"- **{claim.text}**: {claim.verdict if claim.steps else 'not measured'}")
        for step in claim.steps:
            (name, decimals), unit = METRICS[step.metric], " dB" if step.metric == "psnr" else ""
            mean = said(step.found.mean, decimals)
            found.append(f"  - {step.what}: {name} {mean}{unit}{p_of(step)}")
    return found


def p_of(step: Step) -> str:
    """, p 0.003"""
    return "" if math.isnan(step.found.p) else f", p {step.found.p:.3f}"
