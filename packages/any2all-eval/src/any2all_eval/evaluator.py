"""The work of one process on the studies: all parts of its patients."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from any2all_app.folders import write_text
from any2all_app.measurement import Trained, build_operator
from any2all_app.observer import SILENT, Observer
from any2all_core.reconstruct import complete, simulate, solve
from any2all_core.sampler import passes_of
from any2all_operators import BlockDiagonal, Data, Measurement, UserError, Zero
from torch import Tensor

from any2all_eval.classical import UNTUNED
from any2all_eval.lesions import SHOWS_LESIONS, spots
from any2all_eval.measures import WITHOUT_UNIT, Measures
from any2all_eval.metrics import agreement, scores, through_plane
from any2all_eval.parts import (
    PARTS,
    PLACES,
    RESIDUAL,
    SECONDS,
    Part,
    is_residual,
    keep_truth,
    of_slices,
    write_npz,
)
from any2all_eval.patients import Patient, Slices, read_patient, units, why_left_out
from any2all_eval.references import References
from any2all_eval.solvers import Solvers
from any2all_eval.study import Row, Study
from any2all_eval.uncertainty import uncertainty
from any2all_eval.work import Work

COST = {"Tikhonov": 1, "CG-SENSE": 1, "L1-wavelet": 50, "total variation": 50}
"""Cost of tuning a reference, in passes of the network; other references need no tuning."""


@dataclass(frozen=True)
class Solved:
    """The result of a method for a row: {modality: (B, H, W)} in [0, 1].

    ``std`` is the standard deviation of several draws. ``residual`` is {modality: RMS of y − A x
    over the noise's, one per slice}.
    """

    mean: dict[str, Tensor]
    std: dict[str, Tensor]
    residual: dict[str, list[float]]


@dataclass(frozen=True, kw_only=True)
class Evaluator:
    """The work of one process on the studies."""

    studies: Sequence[Study]
    solvers: Solvers
    references: References | None
    output: Path
    slices: Slices
    batch_size: int
    measures: Measures
    observer: Observer = SILENT
    _operators: dict[frozenset[str], BlockDiagonal] = field(init=False, default_factory=dict)

    @property
    def prior(self) -> Trained:
        """The object that defines the modalities and their scaling."""
        return self.solvers.frame

    def run(self, patients: Mapping[str, str], rewrite: Callable[[], None] | None = None) -> bool:
        """Compute every missing part of these patients, {name: path}, cheap ones first.

        ``rewrite`` is called as parts finish. Returns False if a patient was refused.
        """
        whole, parts = True, sorted(self.parts(), key=self.cost)
        folders = {name: self.output / PARTS / name for name in patients}
        todo = {n: [p for p in parts if not p.path(f).exists()] for n, f in folders.items()}
        work = Work(self.observer, {n: sum(map(self.weight, left)) for n, left in todo.items()})
        for name, left in todo.items():
            if not left:
                continue
            patient, refused = self.read(name, patients[name])
            whole = whole and not refused
            if patient is None:
                work.without(name)
                continue
            folders[name].mkdir(parents=True, exist_ok=True)
            keep_truth(folders[name], patient, self.prior.modalities)
            for part in left:
                self.do(part, patient, folders[name])
                work.done(self.weight(part))
                if rewrite is not None:
                    rewrite()
        return whole

    def weight(self, part: Part) -> int:
        """The weight of a part in the progress: its passes of the network, and at least 1."""
        return max(self.cost(part), 1)

    def read(self, name: str, path: str) -> tuple[Patient | None, bool]:
        """Read a patient, or None; and say whether the files were refused."""
        try:
            patient = read_patient(path, self.prior, name, self.slices)
            patient = patient and self.measures.with_masks(patient, path)
        except UserError as error:
            self.observer.say(f"{name} refused: {error}")
            return None, True
        if patient is None or not patient.places:
            self.observer.say(f"{name}: left out; {why_left_out(path, self.prior)}")
            return None, False
        for m, found in patient.unlike.items():
            self.observer.say(
                f"{name}: {m} does not look like the {m} of the training: {'; '.join(found)}"
            )
        return patient, False

    def cost(self, part: Part) -> int:
        """Passes of the network per slice; a reference has its COST, or 0 without tuning."""
        if not part.sampled:
            return COST.get(part.method, 0)
        blocks = self.operator(part.row).operators
        size = self.prior.format.size
        image = torch.zeros(1, *size)
        data = {m: block.forward(image) for m, block in blocks.items()}
        asked = Measurement(BlockDiagonal(blocks), data)
        solver = self.solvers(part.method)
        draws = part.study.draws if solver.random else 1
        return draws * passes_of(solver, asked)

    def parts(self) -> list[Part]:
        """The parts of a patient: rows with a measurement, by samplers and references."""
        found = []
        for study in self.studies:
            for row in study.rows:
                if row.known:
                    others = (
                        self.references.methods(row, self.operator(row)) if self.references else ()
                    )
                    able = (
                        s
                        for s in study.samplers_of(row)
                        if self.solvers.can(s, row, self.operator(row))
                    )
                    found += [Part(study, row, m) for m in (*able, *others)]
        return found

    def operator(self, row: Row) -> BlockDiagonal:
        """The operator of a row, for every modality of the prior."""
        if row.inputs not in self._operators:
            size = self.prior.format.size
            blocks = {s.modality: build_operator(s, *size).operator for s in row.known}
            self._operators[row.inputs] = complete(BlockDiagonal(blocks), self.prior)
        return self._operators[row.inputs]

    def do(self, part: Part, patient: Patient, folder: Path, few: bool = False) -> None:
        """Compute a part for a patient, and write its images and records, each file whole.

        ``few`` says that these are only a few of the slices. If some slices were computed before,
        they are reused.
        """
        solved, seconds = self._of_few(part, patient, folder) or self._solved(part, patient)
        kind = np.float32 if few else np.float16
        arrays = {m: u.numpy().astype(kind) for m, u in solved.mean.items()}
        arrays |= {f"{m}_std": u.numpy().astype(kind) for m, u in solved.std.items()}
        path = part.path(folder, few)
        if few:
            arrays |= {f"{m}{RESIDUAL}": np.array(r) for m, r in solved.residual.items()}
            arrays |= {PLACES: np.array(patient.places), SECONDS: np.array(seconds)}
        write_npz(path.with_suffix(".npz"), arrays)
        records = list(self._records(part, patient, solved, seconds))
        write_text(path, json.dumps(records) + "\n")  # NaN and all, for Python alone
        if not few:
            for left in (part.path(folder, few=True), part.path(folder, True).with_suffix(".npz")):
                left.unlink(missing_ok=True)

    def _of_few(self, part: Part, patient: Patient, folder: Path) -> tuple[Solved, float] | None:
        """Join the results of a few slices from before with those of the other slices."""
        path = part.path(folder, few=True).with_suffix(".npz")
        if part.method in UNTUNED or not path.exists():  # a quick look does not tune
            return None
        with np.load(path) as arrays:
            before = {name: arrays[name] for name in arrays.files}
        places, seconds = before.pop(PLACES).tolist(), float(before.pop(SECONDS))
        if not set(places) <= set(patient.places):
            return None
        rest = [b for b, place in enumerate(patient.places) if place not in places]
        if rest:
            found, of_rest = self._solved(part, of_slices(patient, rest))
            seconds = (seconds * len(places) + of_rest * len(rest)) / len(patient.places)
        else:
            found = Solved({}, {}, {})
        order = [*places, *(patient.places[b] for b in rest)]
        back = torch.tensor([order.index(place) for place in patient.places])

        def joined(name: str, other: Tensor | None) -> Tensor:
            one = torch.from_numpy(before[name])
            return (one if other is None else torch.cat([one, other.to(one)]))[back]

        mean = {m: joined(m, found.mean.get(m)) for m in part.row.scored if m in before}
        std = {m: joined(f"{m}_std", found.std.get(m)) for m in mean if f"{m}_std" in before}
        residual = {}
        for name in before:
            if is_residual(name):
                m = name.removesuffix(RESIDUAL)
                other = torch.tensor(found.residual[m]) if rest else None
                residual[m] = joined(name, other).tolist()
        return Solved(mean, std, residual), seconds

    def _solved(self, part: Part, patient: Patient) -> tuple[Solved, float]:
        """The result of a part for a patient, and the seconds per slice."""
        row, operator = part.row, self.operator(part.row)
        data = simulate(operator, patient.stack, patient.seed, patient.places)
        operator = operator.estimated(data)
        if not part.sampled and self.references:
            self.references.prepare(part.method, row, operator)
        started = time.perf_counter()
        if part.sampled:
            solved = self._sampled(part, patient, operator, data)
        else:
            assert self.references
            asked = Measurement(operator, data)
            images = self.references.solve(part.method, patient, row, asked)
            solved = Solved(images, {}, {})
        return solved, (time.perf_counter() - started) / len(patient.stack)

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
            through=part.row.through / patient.distance,
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
            width, unit = physical.get(m, (None, WITHOUT_UNIT))
            volume = self.measures.of_volume(patient, m, image, unit)
            pairs = self.measures.pairs
            found = scores(
                image, truth, patient.head, patient.lesion, width=width, perceptual=pairs
            )
            if m in solved.std:
                found |= uncertainty(
                    image, solved.std[m], truth, patient.head, draws=part.study.draws
                )
            steps = through_plane(image, truth, patient.head, patient.places)
            counted = None
            if m == SHOWS_LESIONS and patient.lesion is not None:
                counted = spots(
                    image.clamp(0, 1), truth, patient.lesion, patient.head, pixel=patient.pixel
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
                if b == 0:
                    record |= volume
                if b in steps:
                    record["through_plane"] = steps[b]
                if m in solved.residual:
                    record["residual"] = solved.residual[m][b]
                if counted is not None:
                    record |= asdict(counted[b])
                yield record
