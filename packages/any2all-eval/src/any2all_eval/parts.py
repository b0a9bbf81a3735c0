"""The files of a run: one part for each patient, row and method, either complete or absent.

OUTPUT/
  run.json                  the request
  tuned.json                values tuned on val for the references
  parts/<patient>/
    truth.npz               every modality (B, H, W), float16; head and lesion; places
    unlike.json             {modality: in which respects it does not look like the training's}
    <study>--<row>--<method>.json, .npz     a record per slice and image; the images
    <study>--<row>--<method>.few.json, .npz the same of a few slices, float32, until all are done
  draws/<study>/<sampler>/  unconditional draws
  results.csv, report.json, tables.md, tables.tex, report.html, figures/    of all, at the end
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from any2all_app.folders import write_text
from any2all_operators import BlockDiagonal

from any2all_eval.patients import Patient
from any2all_eval.study import Row, Study

PARTS, TRUTH, UNLIKE = "parts", "truth.npz", "unlike.json"
PLACES, SECONDS, RESIDUAL = "places", "seconds", "_residual"
"""Names of arrays: places of the slices in the volume, seconds per slice, and a suffix."""


@dataclass(frozen=True)
class Part:
    """The result of one method for one row of a study."""

    study: Study
    row: Row
    method: str

    def path(self, folder: Path, few: bool = False) -> Path:
        """The file of its records; ``few``: of those of a few slices."""
        names = (self.study.name, self.row.name, self.method)
        return folder / f"{'--'.join(map(slug, names))}{'.few' if few else ''}.json"

    def there(self, folder: Path) -> Path | None:
        """Its records, of all slices or of a few; None if nothing is done yet."""
        paths = (self.path(folder), self.path(folder, few=True))
        return next((path for path in paths if path.exists()), None)

    def images(self, folder: Path) -> dict[str, Any] | None:
        """Arrays (B, H, W) of the results, with ``places`` if of a few slices; None if not done."""
        path = self.there(folder)
        if path is None:
            return None
        with np.load(path.with_suffix(".npz")) as arrays:
            return {n: arrays[n] for n in arrays.files if n != SECONDS and not is_residual(n)}

    @property
    def sampled(self) -> bool:
        """Whether the method is one of the study's samplers, and not a reference."""
        return self.method in self.study.samplers


def keep_truth(folder: Path, patient: Patient, modalities: Sequence[str]) -> None:
    """Write the patient's true images, head and lesions, for all judged slices."""
    images: dict[str, Any] = {
        m: patient.stack[:, k].half().numpy() for k, m in enumerate(modalities)
    }
    images["head"] = patient.head.numpy()
    if patient.lesion is not None:
        images["lesion"] = patient.lesion.numpy()
    images[PLACES] = np.array(patient.places)
    write_npz(folder / TRUTH, images)
    if patient.unlike:
        write_text(folder / UNLIKE, json.dumps(patient.unlike, indent=2) + "\n")


def unlike_training(output: Path, people: Sequence[str]) -> dict[str, dict[str, list[str]]]:
    """{patient: {modality: in which respects}} of images that do not look like the training's."""
    paths = {name: output / PARTS / name / UNLIKE for name in people}
    return {name: json.loads(p.read_text()) for name, p in paths.items() if p.exists()}


def is_residual(name: str) -> bool:
    """Whether an array of a few slices holds the residuals of an image."""
    return name.endswith(RESIDUAL)


def of_slices(patient: Patient, chosen: Sequence[int]) -> Patient:
    """Some of a patient's slices, by their index among the judged slices."""
    some = list(chosen)
    lesion = None if patient.lesion is None else patient.lesion[some]
    places = tuple(patient.places[b] for b in some)
    few = replace(patient, stack=patient.stack[some], places=places, lesion=lesion)
    return replace(few, volumes={}, masks={})


def slug(text: str) -> str:
    """A name that is valid as a file name."""
    return re.sub(r"[^A-Za-z0-9.=+&,-]", "_", text)


def write_npz(path: Path, arrays: Mapping[str, Any]) -> None:
    """Write an npz file atomically."""
    temporary = path.with_name(f".{path.stem}-{os.getpid()}.npz")
    np.savez_compressed(temporary, **arrays)
    os.replace(temporary, path)


def records_in(
    output: Path, parts: Sequence[Part], patients: Sequence[str]
) -> list[dict[str, Any]]:
    """The records of these patients, in the order of the parts; of a few slices if not all."""
    paths = (part.there(output / PARTS / patient) for part in parts for patient in patients)
    return [record for path in paths if path for record in json.loads(path.read_text())]


def undersampling(parts: Sequence[Part], operator: Callable[[Row], BlockDiagonal]) -> Iterator[str]:
    """A sentence about each kind of k-space of the rows: how far it is undersampled in effect."""
    found: dict[str, float] = {}
    for part in parts:
        blocks = operator(part.row).operators
        for text in part.row.inputs:
            modality, _, spec = text.partition("=")
            acceleration = getattr(blocks[modality], "acceleration", None)
            if acceleration is not None:
                found[spec] = acceleration
    for spec, acceleration in found.items():
        yield f"{spec} is {acceleration:.1f}-fold undersampled in effect, with all lines counted"
