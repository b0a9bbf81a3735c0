"""The run of studies: each patient, row and method is a part of its own, whole or not there.

OUTPUT/
  run.json                  what was asked for
  tuned.json                what was tuned on val for the references
  parts/<patient>/
    truth.npz               every modality (B, H, W), float16; head and lesion; places
    <study>--<row>--<method>.json, .npz     a record a slice and image; the images
    <study>--<row>--<method>.few.json, .npz likewise of a few slices, float32, until all are done
  draws/<study>/<sampler>/  stacks from nothing
  results.csv, report.json, tables.md, tables.tex, report.html, figures/    of all, at the end
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from any2all_eval.patients import Patient
from any2all_eval.study import Row, Study

PARTS, TRUTH = "parts", "truth.npz"
PLACES, SECONDS, RESIDUAL = "places", "seconds", "_residual"
"""Arrays: which slices of the volume there are; how long one took; how an array's name ends."""


@dataclass(frozen=True)
class Part:
    """What one method makes of one row of a study."""

    study: Study
    row: Row
    method: str

    def path(self, folder: Path, few: bool = False) -> Path:
        """Of its records; few: of those of a few slices."""
        names = (self.study.name, self.row.name, self.method)
        return folder / f"{'--'.join(map(slug, names))}{'.few' if few else ''}.json"

    def there(self, folder: Path) -> Path | None:
        """The records that there are: of all slices, or of a few; None before any is done."""
        paths = (self.path(folder), self.path(folder, few=True))
        return next((path for path in paths if path.exists()), None)

    def images(self, folder: Path) -> dict[str, Any] | None:
        """Arrays (B, H, W) of the results; ``places`` is of a few slices. None before any."""
        path = self.there(folder)
        if path is None:
            return None
        with np.load(path.with_suffix(".npz")) as arrays:
            return {n: arrays[n] for n in arrays.files if n != SECONDS and not is_residual(n)}

    @property
    def sampled(self) -> bool:
        """Whether the method is one of the study's samplers, and no reference."""
        return self.method in self.study.samplers


def keep_truth(folder: Path, patient: Patient, modalities: Sequence[str]) -> None:
    """What the patient's images, head and lesions are, of all slices that are judged."""
    images: dict[str, Any] = {
        m: patient.stack[:, k].half().numpy() for k, m in enumerate(modalities)
    }
    images["head"] = patient.head.numpy()
    if patient.lesion is not None:
        images["lesion"] = patient.lesion.numpy()
    images[PLACES] = np.array(patient.places)
    write_npz(folder / TRUTH, images)


def is_residual(name: str) -> bool:
    """Whether an array of a few slices holds the residuals of an image."""
    return name.endswith(RESIDUAL)


def of_slices(patient: Patient, chosen: Sequence[int]) -> Patient:
    """Some of a patient's slices, by their place among those that are judged."""
    some = list(chosen)
    lesion = None if patient.lesion is None else patient.lesion[some]
    places = tuple(patient.places[b] for b in some)
    few = replace(patient, stack=patient.stack[some], places=places, lesion=lesion)
    return replace(few, volumes={}, masks={})


def slug(text: str) -> str:
    """A name that a file can have."""
    return re.sub(r"[^A-Za-z0-9.=+&,-]", "_", text)


def write_npz(path: Path, arrays: Mapping[str, Any]) -> None:
    """Whole or not at all."""
    temporary = path.with_name(f".{path.stem}-{os.getpid()}.npz")
    np.savez_compressed(temporary, **arrays)
    os.replace(temporary, path)


def records_in(
    output: Path, parts: Sequence[Part], patients: Sequence[str]
) -> list[dict[str, Any]]:
    """Of these patients, in the order of the parts; of a few slices where no more is done."""
    paths = (part.there(output / PARTS / patient) for part in parts for patient in patients)
    return [record for path in paths if path for record in json.loads(path.read_text())]
