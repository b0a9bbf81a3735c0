"""Figures as the paper's: images beside the truth, curves, distortion against perception."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from any2all_eval.claims import Results
from any2all_eval.evaluate import PARTS, TRUTH, Part, slug
from any2all_eval.study import Study
from any2all_eval.tables import METRICS, Line

ERROR = 0.2
"""Where the colour of an error ends, of the image's range: one scale for all."""


def image_figure(parts: Sequence[Part], folder: Path, image: str, who: str) -> Figure | None:
    """One image of one patient's middle slice: a column an input, two lines a sampler.

    Below each result its error. None where nothing was made of it.
    """
    study = parts[0].study
    cells: dict[tuple[str, str], Any] = {}
    for part in parts:
        path = part.path(folder).with_suffix(".npz")
        if part.method in study.samplers and image in part.row.scored and path.exists():
            with np.load(path) as arrays:
                cells[part.method, part.row.name] = arrays[image].astype(np.float32)
    if not cells:
        return None
    with np.load(folder / TRUTH) as kept:
        truth = kept[image].astype(np.float32)
    z = len(truth) // 2
    methods, rows = (list(dict.fromkeys(k[n] for k in cells)) for n in (0, 1))
    height = truth.shape[1] / truth.shape[2]
    shape = (2 * len(methods), 1 + len(rows))
    figure = Figure(figsize=(1.5 * shape[1], 1.5 * height * shape[0] + 0.5), layout="constrained")
    axes = figure.subplots(*shape, squeeze=False)
    for panel in axes.flat:
        panel.axis("off")
    axes[0, 0].imshow(truth[z], cmap="gray", vmin=0, vmax=1)
    axes[0, 0].set_title(f"{image}, truth", fontsize=7)
    for k, method in enumerate(methods):
        axes[2 * k + 1, 0].text(0.5, 0.5, method, ha="center", fontsize=7)
        for column, row in enumerate(rows, start=1):
            if (method, row) not in cells:
                continue
            result = cells[method, row][z]
            axes[2 * k, column].imshow(result, cmap="gray", vmin=0, vmax=1)
            axes[2 * k, column].set_title(row, fontsize=7)
            error = np.abs(result - truth[z])
            axes[2 * k + 1, column].imshow(error, cmap="inferno", vmin=0, vmax=ERROR)
    figure.suptitle(f"{study.title}; error to {ERROR:g}; {who}", fontsize=7)
    return figure


def curves_figure(results: Results, study: Study) -> Figure | None:
    """PSNR against the number of clean images, a line a target and sampler."""
    lines: list[tuple[str, list[tuple[float, float]]]] = []
    for of_study, target, rows in results.growing():
        if of_study is not study:
            continue
        for sampler in study.samplers:
            keys = [(study.name, row.name, sampler, target) for row in rows]
            found = [results.metrics["psnr"].get(key) for key in keys]
            points = [
                (float(len(row.clean)), float(np.mean(list(values.values()))))
                for row, values in zip(rows, found, strict=True)
                if values
            ]
            lines.append((f"{target} ({sampler})", points))
    return plot([line for line in lines if line[1]], "clean images", "PSNR (dB)", "o-")


def scatter_figure(lines: Sequence[Line]) -> Figure | None:
    """Distortion against perception, a point a line of the table."""
    perception = "lpips" if any("lpips" in line.means for line in lines) else "ssim"
    groups: dict[str, list[tuple[float, float]]] = {}
    for line in lines:
        pair = [line.means[m].value for m in ("psnr", perception) if m in line.means]
        if len(pair) == 2 and not any(map(math.isnan, pair)):
            groups.setdefault(line.key[2], []).append((pair[0], pair[1]))
    return plot(list(groups.items()), "PSNR (dB)", METRICS[perception][0], "o")


def plot(
    lines: Sequence[tuple[str, list[tuple[float, float]]]], x: str, y: str, mark: str
) -> Figure | None:
    """Named lines of points."""
    if not lines:
        return None
    figure = Figure(figsize=(5, 3.2), layout="constrained")
    axes = figure.subplots()
    for name, points in lines:
        axes.plot(*zip(*points, strict=True), mark, label=name)
    axes.set(xlabel=x, ylabel=y)
    axes.locator_params(axis="x", integer=mark == "o-")
    axes.legend(fontsize="x-small")
    return figure


def write_figures(
    parts: Sequence[Part],
    figures: Mapping[str, Figure | None],
    output: Path,
    patient: str,
    who: str,
) -> None:
    """PNG in OUTPUT/figures: these, and the images of one patient."""
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
