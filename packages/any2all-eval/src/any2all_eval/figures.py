"""Figures as in the paper: images beside the truth, curves, distortion against perception."""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from any2all_eval.claims import Results
from any2all_eval.headline import ERROR
from any2all_eval.parts import PARTS, PLACES, TRUTH, Part, slug
from any2all_eval.perception import COLUMNS, DISTANCE
from any2all_eval.study import Study
from any2all_eval.tables import METRICS, Line

LEAST_SPAN = {"PSNR (dB)": 3.0, "SSIM": 0.05, "LPIPS": 0.05, COLUMNS[DISTANCE][0]: 0.05}
"""The least span of an axis, so that a negligible difference does not look steep."""
LETTERS = 22
"""Letters per line of a title above one column of images."""
MARKS, LINES = "os^Dv*PX", ("-", "--", ":", "-.")
Groups = dict[tuple[str, str], list[tuple[float, float]]]
"""{(image, method): points}"""


def image_figure(parts: Sequence[Part], folder: Path, image: str, who: str) -> Figure | None:
    """One image of one patient's middle slice: a column per input, two lines per sampler.

    Below each result is its error. Returns None if there is no result of the image.
    """
    study = parts[0].study
    made: dict[tuple[str, str], Any] = {}
    for part in parts:
        if part.sampled and image in part.row.scored and (arrays := part.images(folder)):
            made[part.method, part.row.name] = arrays
    if not made:
        return None
    with np.load(folder / TRUTH) as kept:
        truth, places = kept[image].astype(np.float32), kept[PLACES].tolist()
    common = set(places).intersection(*(own.get(PLACES, places) for own in made.values()))
    shown = sorted(common)[len(common) // 2]
    z = places.index(shown)
    cells = {
        key: own[image][list(own.get(PLACES, places)).index(shown)].astype(np.float32)
        for key, own in made.items()
    }
    methods, rows = (list(dict.fromkeys(k[n] for k in cells)) for n in (0, 1))
    height = truth.shape[1] / truth.shape[2]
    shape = (2 * len(methods), 1 + len(rows))
    figure = Figure(figsize=(1.3 * shape[1], 1.3 * height * shape[0] + 0.7), layout="constrained")
    axes = figure.subplots(*shape, squeeze=False)
    for panel in axes.flat:
        panel.set(xticks=[], yticks=[], frame_on=False)
    axes[0, 0].imshow(truth[z], cmap="gray", vmin=0, vmax=1)
    axes[0, 0].set_title(f"{image}, truth", fontsize=7)
    for column, row in enumerate(rows, start=1):
        axes[0, column].set_title(folded(row), fontsize=7)
        for k, method in enumerate(methods):
            if (method, row) in cells:
                result = cells[method, row]
                error = np.abs(result - truth[z])
                axes[2 * k, column].imshow(result, cmap="gray", vmin=0, vmax=1)
                axes[2 * k + 1, column].imshow(error, cmap="inferno", vmin=0, vmax=ERROR)
    for k, method in enumerate(methods):
        axes[2 * k, 1].set_ylabel(method, fontsize=7)
        axes[2 * k + 1, 1].set_ylabel(f"error, 0 to {ERROR:g}", fontsize=7)
    figure.suptitle(textwrap.fill(f"{study.title}; {who}", LETTERS * shape[1]), fontsize=7)
    return figure


def folded(name: str, width: int = 18) -> str:
    """The name of a row, in lines of about this many letters."""
    lines = [""]
    for part in re.split(r"(?<=[&+,])", name):
        if lines[-1] and len(lines[-1]) + len(part) > width:
            lines.append("")
        lines[-1] += part
    return "\n".join(lines)


def curves_figure(results: Results, study: Study) -> Figure | None:
    """PSNR against the number of clean images, one curve per target and sampler."""
    groups: Groups = {}
    for of_study, target, rows in results.growing():
        if of_study is not study:
            continue
        for sampler in study.samplers:
            keys = [(study.name, row.name, sampler, target) for row in rows]
            found = [results.metrics["psnr"].get(key) for key in keys]
            for row, values in zip(rows, found, strict=True):
                if values:
                    point = float(len(row.clean)), float(np.mean(list(values.values())))
                    groups.setdefault((target, sampler), []).append(point)
    groups = {key: points for key, points in groups.items() if len(points) > 1}
    figure = plot(groups, "clean images", "PSNR (dB)", lines=True)
    if figure is not None:
        figure.axes[0].locator_params(axis="x", integer=True)
    return figure


def time_figure(study: Study, lines: Sequence[Line]) -> Figure | None:
    """PSNR against the time per slice, a curve for each sampler that ran with several options.

    Returns None if no sampler did, because one point does not show what more time would give.
    """
    groups: Groups = {}
    for line in lines:
        _, row, text, image = line.key
        psnr = line.means["psnr"].value
        if text in study.samplers and math.isfinite(psnr):
            shown = image if len(study.rows) == 1 else f"{row}: {image}"
            name = text.partition(":")[0]
            groups.setdefault((shown, name), []).append((line.seconds, psnr))
    if all(len(points) < 2 for points in groups.values()):
        return None
    sorted_ = {key: sorted(points) for key, points in groups.items()}
    figure = plot(sorted_, "seconds a slice", "PSNR (dB)", lines=True)
    if figure is not None:
        figure.axes[0].set_xscale("log")
    return figure


def scatter_figure(lines: Sequence[Line]) -> Figure | None:
    """Distortion against perception, one point per line of the table."""
    measured = (m for m in ("lpips", DISTANCE) if any(m in line.means for line in lines))
    perception = next(measured, "ssim")
    groups: Groups = {}
    for line in lines:
        pair = [line.means[m].value for m in ("psnr", perception) if m in line.means]
        if len(pair) == 2 and not any(map(math.isnan, pair)):
            groups.setdefault((line.key[3], line.key[2]), []).append((pair[0], pair[1]))
    return plot(groups, "PSNR (dB)", METRICS[perception][0], lines=False)


def plot(groups: Groups, x: str, y: str, lines: bool) -> Figure | None:
    """Plot with one colour per image and one marker and line style per method; legend beside it."""
    if not groups:
        return None
    images, methods = (list(dict.fromkeys(key[n] for key in groups)) for n in (0, 1))
    figure = Figure(figsize=(6.6, 3.4), layout="constrained")
    axes = figure.subplots()
    styles: dict[str, dict[str, Any]] = {}
    for k, method in enumerate(methods):
        line = LINES[k % len(LINES)] if lines else ""
        styles[method] = {"marker": MARKS[k % len(MARKS)], "linestyle": line, "markersize": 4}
    for (image, method), points in groups.items():
        color = f"C{images.index(image)}"
        axes.plot(*zip(*points, strict=True), color=color, **styles[method])
    axes.set(xlabel=x, ylabel=y)
    axes.set_xlim(*at_least(LEAST_SPAN.get(x, 0.0), *axes.get_xlim()))
    axes.set_ylim(*at_least(LEAST_SPAN.get(y, 0.0), *axes.get_ylim()))
    shown = [Line2D([], [], color=f"C{k}", linewidth=4, label=m) for k, m in enumerate(images)]
    shown += [Line2D([], [], color="grey", label=m, **style) for m, style in styles.items()]
    figure.legend(handles=shown, fontsize="small", loc="outside right upper")
    return figure


def at_least(span: float, low: float, high: float) -> tuple[float, float]:
    """The limits of an axis, widened to ``span`` around their middle if they are closer."""
    more = max(span - (high - low), 0.0) / 2
    return low - more, high + more


def write_figures(
    parts: Sequence[Part],
    figures: Mapping[str, Figure | None],
    output: Path,
    *,
    patient: str,
    who: str,
) -> None:
    """Write these figures, and the images of one patient, as PNG in OUTPUT/figures."""
    folder = output / "figures"
    folder.mkdir(exist_ok=True)
    made = dict(figures)
    for study in dict.fromkeys(part.study.name for part in parts):
        own = [part for part in parts if part.study.name == study]
        for image in dict.fromkeys(m for part in own for m in part.row.scored):
            made[f"{study}-{image}"] = image_figure(own, output / PARTS / patient, image, who)
    for name, figure in made.items():
        if figure is not None:
            figure.savefig(folder / f"{slug(name)}.png", dpi=110, metadata={"Software": None})
