"""The run of studies: each patient, row and method is a part of its own, whole or not there.

OUTPUT/
  run.json                  what was asked for
  tuned.json                what was tuned on val for the references
  parts/<patient>/
    truth.npz               every modality (B, H, W), float16; head and lesion; places
    <study>--<row>--<method>.json, .npz     a record a slice and image; the images
  draws/<study>/<sampler>/  stacks from nothing
  results.csv, report.json, tables.md, tables.tex, report.html, figures/    of all, at the end
"""

from __future__ import annotations

import json
import os
import re
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from any2all_app.folders import write_text
from any2all_app.measurement import Trained, build_operator
from any2all_app.observer import SILENT, Observer
from any2all_core.reconstruct import complete, simulate, solve
from any2all_operators import BlockDiagonal, Data, Measurement, UserError, Zero
from torch import Tensor

from any2all_eval.lesions import SHOWS_LESIONS, spots
from any2all_eval.metrics import Perceptual, scores, through_plane
from any2all_eval.patients import Patient, read_patient, units
from any2all_eval.references import References
from any2all_eval.solvers import Solvers
from any2all_eval.study import Row, Study
from any2all_eval.uncertainty import uncertainty

PARTS, TRUTH = "parts", "truth.npz"
EVALUATING = "evaluating, parts"


@dataclass(frozen=True)
class Solved:
    """What a method made of a row: {modality: (B, H, W)} in [0, 1].

    std: of several draws; residual: {modality: RMS of y − A x over the noise's, one a slice}.
    """

    mean: dict[str, Tensor]
    std: dict[str, Tensor]
    residual: dict[str, list[float]]


@dataclass(frozen=True)
class Part:
    """What one method makes of one row of a study."""

    study: Study
    row: Row
    method: str

    def path(self, folder: Path) -> Path:
        names = (self.study.name, self.row.name, self.method)
        return folder / f"{'--'.join(map(slug, names))}.json"


@dataclass(frozen=True)
class Evaluator:
    """What one process does of studies."""

    studies: Sequence[Study]
    solvers: Solvers
    references: References | None
    output: Path
    slices: int | None
    batch_size: int
    perceptual: Perceptual | None
    observer: Observer = SILENT
    _operators: dict[frozenset[str], BlockDiagonal] = field(default_factory=dict)

    @property
    def prior(self) -> Trained:
        """What says which images there are, and how they are scaled."""
        return self.solvers.frame

    def run(self, patients: Mapping[str, str]) -> bool:
        """Every part of these patients, {name: path}, that is not there yet.

        False when somebody was refused.
        """
        whole = True
        parts = self.parts()
        done, total = 0, len(patients) * len(parts)
        for name, path in patients.items():
            folder = self.output / PARTS / name
            left = [part for part in parts if not part.path(folder).exists()]
            done += len(parts) - len(left)
            if left:
                try:
                    patient = read_patient(path, self.prior, name, seed_of(name), self.slices)
                except UserError as error:
                    self.observer.say(f"{name} refused: {error}")
                    patient, whole = None, False
                else:
                    if patient is None or not patient.places:
                        self.observer.say(f"{name}: left out; it lacks a modality or shows no head")
                        patient = None
                if patient is None:
                    done += len(left)
                    left = []
                else:
                    folder.mkdir(parents=True, exist_ok=True)
                    self._keep_truth(folder, patient)
            for part in left:
                self.observer.progress(EVALUATING, done, total)
                assert patient
                self._do(part, patient, folder)
                done += 1
            if total:
                self.observer.progress(EVALUATING, done, total)
        return whole

    def parts(self) -> list[Part]:
        """Of each patient: the rows in which something is known, by samplers and references."""
        found = []
        for study in self.studies:
            for row in study.rows:
                if row.known:
                    others = (
                        self.references.methods(row, self.operator(row)) if self.references else ()
                    )
                    able = (
                        s for s in study.samplers if self.solvers.can(s, row, self.operator(row))
                    )
                    found += [Part(study, row, m) for m in (*able, *others)]
        return found

    def operator(self, row: Row) -> BlockDiagonal:
        """What a row measures, with every modality of the prior."""
        if row.inputs not in self._operators:
            size = self.prior.settings.image_size
            blocks = {s.modality: build_operator(s, *size).operator for s in row.known}
            self._operators[row.inputs] = complete(BlockDiagonal(blocks), self.prior)
        return self._operators[row.inputs]

    def _do(self, part: Part, patient: Patient, folder: Path) -> None:
        row, operator = part.row, self.operator(part.row)
        data = simulate(operator, patient.stack, patient.seed, patient.places)
        operator = operator.estimated(data)
        if part.method not in part.study.samplers and self.references:
            self.references.prepare(part.method, row, operator)
        started = time.perf_counter()
        if part.method in part.study.samplers:
            solved = self._sampled(part, patient, operator, data)
        else:
            assert self.references
            images = self.references.solve(part.method, patient, row, operator, data)
            solved = Solved(images, {}, {})
        seconds = (time.perf_counter() - started) / len(patient.stack)
        arrays = {m: u.half().numpy() for m, u in solved.mean.items()}
        arrays |= {f"{m}_std": u.half().numpy() for m, u in solved.std.items()}
        path = part.path(folder)
        write_npz(path.with_suffix(".npz"), arrays)
        records = list(self._records(part, patient, solved, seconds))
        write_text(path, json.dumps(records) + "\n")  # NaN and all, for Python alone

    def _sampled(self, part: Part, patient: Patient, operator: BlockDiagonal, data: Data) -> Solved:
        solver = self.solvers(part.method)
        known = {m: b for m, b in operator.operators.items() if not isinstance(b, Zero)}
        results = solve(
            solver,
            BlockDiagonal(known),
            {m: data[m] for m in known},
            slice_ids=patient.places,
            seed=patient.seed,
            draws=part.study.draws if solver.random else 1,
            batch_size=self.batch_size,
        )
        mean = results.mean(0)
        place = {m: self.prior.modalities.index(m) for m in part.row.scored}
        std = {m: results[:, :, k].std(0) for m, k in place.items() if len(results) > 1}
        return Solved(
            {m: mean[:, k] for m, k in place.items()}, std, agreement(operator, data, mean)
        )

    def _records(
        self, part: Part, patient: Patient, solved: Solved, seconds: float
    ) -> Iterator[dict[str, Any]]:
        physical = units(self.prior)
        for m, image in solved.mean.items():
            truth = patient.stack[:, self.prior.modalities.index(m)]
            width, unit = physical.get(m, (None, "of [0, 1]"))
            found = scores(image, truth, patient.head, patient.lesion, width, self.perceptual)
            if m in solved.std:
                draws, std = part.study.draws, solved.std[m]
                found |= uncertainty(image, std, truth, patient.head, draws)
            steps = through_plane(image, truth, patient.head, patient.places)
            counted = None
            if m == SHOWS_LESIONS and patient.lesion is not None:
                counted = spots(
                    image.clamp(0, 1), truth, patient.lesion, patient.head, patient.pixel
                )
            for b, place in enumerate(patient.places):
                record: dict[str, Any] = {
                    "patient": patient.name,
                    "slice": place,
                    "study": part.study.name,
                    "row": part.row.name,
                    "method": part.method,
                    "image": m,
                    "unit": unit,
                    "seconds": seconds,
                }
                record |= {name: values[b] for name, values in found.items()}
                if b in steps:
                    record["through_plane"] = steps[b]
                if m in solved.residual:
                    record["residual"] = solved.residual[m][b]
                if counted is not None:
                    record |= asdict(counted[b])
                yield record

    def _keep_truth(self, folder: Path, patient: Patient) -> None:
        images: dict[str, Any] = {
            m: patient.stack[:, k].half().numpy() for k, m in enumerate(self.prior.modalities)
        }
        images["head"] = patient.head.numpy()
        if patient.lesion is not None:
            images["lesion"] = patient.lesion.numpy()
        images["places"] = np.array(patient.places)
        write_npz(folder / TRUTH, images)


def agreement(operator: BlockDiagonal, data: Data, stack: Tensor) -> dict[str, list[float]]:
    """{modality: RMS of y − A x over the noise's, one a slice}, of noisy data."""
    residuals = Measurement(operator, data).near(stack).residual(stack)
    found = {}
    for m, norm in residuals.items():
        block = operator.operators[m]
        if block.noise_std:
            size = block.data_size(data[m])
            found[m] = (norm / size**0.5 / block.noise_std).tolist()
    return found


def seed_of(name: str) -> int:
    """A patient's own, whoever else is there."""
    return zlib.crc32(name.encode())


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
    """Of these patients, in the order of the parts."""
    paths = (part.path(output / PARTS / patient) for part in parts for patient in patients)
    return [record for path in paths if path.exists() for record in json.loads(path.read_text())]
