"""Pictures inside a page, as data URLs."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from numpy.typing import NDArray
from PIL import Image

from any2all_eval.parts import PARTS, PLACES, TRUTH, Part
from any2all_eval.patients import evenly

SLICES = 8
"""Slices that are shown of a patient."""


@dataclass(frozen=True)
class Pictured:
    """The source of the images of the report: the parts in a folder, and the patients to show."""

    parts: Sequence[Part]
    output: Path
    patients: Sequence[str]


def images(pictured: Pictured) -> dict[str, Any]:
    """{patient: {"places", "truth": {image: [PNG]}, "results": {study: {row: {image: {method:

    {"mean": [PNG], "std": [PNG]}}}}}}}, PNG as data URLs, one a slice.
    """
    found: dict[str, Any] = {}
    for number, patient in enumerate(pictured.patients, start=1):
        folder = pictured.output / PARTS / patient
        if not (folder / TRUTH).exists():
            continue
        made = [(part, arrays) for part in pictured.parts if (arrays := part.images(folder))]
        with np.load(folder / TRUTH) as truth:
            names = [n for n in truth.files if n not in ("head", "lesion", PLACES)]
            places = truth[PLACES].tolist()
            some = shown_of(places, [arrays for _, arrays in made])
            entry: dict[str, Any] = {
                "places": [places[b] for b in some],
                "truth": {name: pngs(truth[name][some]) for name in names},
                "results": {},
            }
        for part, arrays in made:
            rows = entry["results"].setdefault(part.study.name, {})
            own = list(arrays.pop(PLACES, places))
            chosen = [own.index(place) for place in entry["places"]]
            for name, images_ in arrays.items():
                image = name.removesuffix("_std")
                of_row = rows.setdefault(part.row.name, {}).setdefault(image, {})
                method = of_row.setdefault(part.method, {})
                is_std = name != image
                scale = 10 if is_std else 1
                method["std" if is_std else "mean"] = pngs(images_[chosen] * scale)
        found[f"number {number}"] = entry
    return found


def shown_of(places: Sequence[int], results: Sequence[Mapping[str, Any]]) -> list[int]:
    """The indices of a patient's slices that are shown; all results contain them."""
    common = set(places).intersection(*(arrays.get(PLACES, places) for arrays in results))
    there = [b for b, place in enumerate(places) if place in common]
    return [there[k] for k in evenly(len(there), SLICES)]


def pngs(stack: NDArray[Any]) -> list[str]:
    """(B, H, W) in [0, 1] as data URLs."""
    grey = (np.clip(stack.astype(np.float32), 0, 1) * 255).round().astype(np.uint8)
    return [png(image) for image in grey]


def picture(image: NDArray[Any], colours: str, end: float) -> str:
    """(H, W) from 0 to ``end`` in matplotlib's colours, as a data URL of a PNG."""
    shares = np.clip(image.astype(np.float32) / end, 0, 1)
    return png(colormaps[colours](shares, bytes=True)[..., :3])


def png(pixels: NDArray[np.uint8]) -> str:
    """(H, W) or (H, W, 3) as a data URL."""
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "png", optimize=True)
    return "data:image/png;base64," + base64.b64encode(data.getvalue()).decode()
