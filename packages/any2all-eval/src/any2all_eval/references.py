"""References that reconstruct or synthesise without the prior, from the same data.

Reconstruction: zero-filled, CG-SENSE, L1-wavelet and total variation of SigPy, with weights tuned
on val. If the k-space has a phase, they reconstruct a complex image and its magnitude is judged.
Other measurements, such as a blur: least squares with a Tikhonov penalty, with a weight tuned on
val. Synthesis: the mean training image, a per-pixel regression and the nearest training slice. For
MR from MR there is also the copy: a given image, unchanged, is taken as the missing one. If several
are given, the best one on val is used.

Without patients in val, the weights of SigPy's methods are fixed, the copy is the best one on the
patients who validated the prior, and Tikhonov is left out. Without patients in train, the mean
image, the regression and the nearest slice are left out.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from any2all_app.folders import write_text
from any2all_app.measurement import Trained
from any2all_core.reconstruct import simulate
from any2all_data.metrics import psnr
from any2all_operators import BlockDiagonal, Measurement, Operator, UserError
from torch import Tensor

from any2all_eval.classical import TUNED, UNTUNED, Recon, image_of, scan_of, tikhonov, tuned
from any2all_eval.patients import Patient, People, Slices, read_patient, training_slices, units
from any2all_eval.study import Row

TRAINING_SLICES, TUNING_SLICES, TUNING_PATIENTS = 6, 2, 6
"""Slices per patient for fitting, slices per patient for tuning, and patients of val."""


ZERO_FILLED = "zero-filled"
TIKHONOV = "Tikhonov"
COPY = "copy"
LEARNT = ("mean image", "regression", "nearest slice")
SYNTHESIS = (*LEARNT, COPY)
RECONSTRUCTION = (ZERO_FILLED, *TUNED)


def polynomial(inputs: Tensor) -> Tensor:
    """Cubic monomials of K intensities, (K, N) to (F, N)."""
    ones = torch.ones_like(inputs[:1])
    terms = [ones, *inputs[:, None]]
    count = len(inputs)
    for i in range(count):
        for j in range(i, count):
            terms.append((inputs[i] * inputs[j])[None])
            terms += [(inputs[i] * inputs[j] * inputs[k])[None] for k in range(j, count)]
    return torch.cat(terms)


def regression(train: Tensor, inputs: Sequence[int], target: int) -> Callable[[Tensor], Tensor]:
    """Least-squares cubic map from the given intensities of a pixel to its intensity in ``target``.

    train: (N, M, H, W). The returned function maps stacks (B, M, H, W) to images (B, H, W).
    """
    chosen = list(inputs)
    gram: Tensor | float = 0.0
    moment: Tensor | float = 0.0
    for part in train.split(100):
        features = polynomial(part[:, chosen].transpose(0, 1).flatten(1).double())
        gram = gram + features @ features.T
        moment = moment + features @ part[:, target].flatten().double()[:, None]
    weights = torch.linalg.lstsq(gram, moment).solution[:, 0]

    def predict(stack: Tensor) -> Tensor:
        images = []
        for part in stack.split(100):
            given = polynomial(part[:, chosen].transpose(0, 1).flatten(1).double())
            images.append((weights @ given).view(len(part), *part.shape[2:]).float())
        return torch.cat(images)

    return predict


def nearest(train: Tensor, inputs: Sequence[int], target: int) -> Callable[[Tensor], Tensor]:
    """``target`` of the training slice whose ``inputs`` have the least mean square difference."""
    chosen = list(inputs)

    def look_up(stack: Tensor) -> Tensor:
        known = train[:, chosen].flatten(1)
        return train[torch.cdist(stack[:, chosen].flatten(1), known).argmin(1), target]

    return look_up


def synthesis(
    train: Tensor, inputs: Sequence[int], target: int
) -> Mapping[str, Callable[[Tensor], Tensor]]:
    """{method: function from stacks (B, M, H, W), of which it reads ``inputs``, to (B, H, W)}."""
    mean = train[:, target].mean(0)
    return {
        "mean image": lambda stack: mean.expand(len(stack), -1, -1),
        "regression": regression(train, inputs, target),
        "nearest slice": nearest(train, inputs, target),
    }


def best_copy(stacks: Sequence[Tensor], inputs: Sequence[int], target: int) -> int:
    """The one of ``inputs`` that, unchanged, has the best mean PSNR as ``target`` on val patients.

    stacks: (B, M, H, W) of each patient.
    """

    def quality(given: int) -> float:
        return float(np.mean([float(psnr(x[:, given], x[:, target]).mean()) for x in stacks]))

    return max(inputs, key=quality)


class References:
    """All references for the images of one prior, fitted and tuned when they are first needed.

    ``kept`` is the file of tuned values, {method and its images: weight, or the image to copy}.
    ``quick`` takes the fixed weights of SigPy's methods, because tuning them takes a minute.
    """

    def __init__(self, prior: Trained, people: People, kept: Path, quick: bool = False) -> None:
        self.prior, self.people, self.kept, self.quick = prior, people, kept, quick
        self._learnt = cache(self._learn)
        self._mr = [m for m in prior.modalities if m not in units(prior)]

    def methods(self, row: Row, operator: BlockDiagonal) -> tuple[str, ...]:
        """The references of a row with measurements alone or with clean images alone; others have
        none.

        K-space has those of RECONSTRUCTION, and any other measurement has TIKHONOV.
        """
        if set(row.scored) == {s.modality for s in row.known}:
            scans = [scan_of(operator.operators[m]) for m in row.scored]
            if None not in scans:
                return RECONSTRUCTION
            return (TIKHONOV,) if self._tunable and set(scans) == {None} else ()
        if not row.clean or row.measured:
            return ()
        learnt = LEARNT if self.people.groups.get("train") else ()
        given, wanted = self._copied(row)
        known = all(set(given) <= set(self._near(m)) for m in wanted)
        able = given and wanted and (len(given) == 1 or self._tunable or known)
        return (*learnt, COPY) if able else learnt

    @property
    def note(self) -> str:
        """How the references do without patients of val or of train; empty if there are both."""
        weights = ", ".join(f"{weight:g} of {name}" for name, weight in UNTUNED.items())
        why = "this is a quick look" if self._tunable else "nobody is in val"
        untuned = f"{why}, so the weights of references are fixed ({weights})"
        without_train = f"nobody is in train, so {', '.join(LEARNT)} are left out"
        said = [] if self._tunable and not self.quick else [untuned]
        said += [] if self.people.groups.get("train") else [without_train]
        return "; ".join(said)

    @property
    def _tunable(self) -> bool:
        """Whether there are patients to tune on."""
        return bool(self.people.groups.get("val"))

    def _near(self, target: str) -> dict[str, float]:
        """{given: PSNR of its copy as ``target``}, on the patients who validated the prior."""
        found = self.prior.settings.nearness
        return {given: of[target][1] for given, of in found.items() if target in of}

    def solve(
        self, method: str, patient: Patient, row: Row, measurement: Measurement
    ) -> dict[str, Tensor]:
        """{modality: (B, H, W)} of the judged images."""
        if method in LEARNT:
            return {m: self._learnt(row.clean, m)[method](patient.stack) for m in row.scored}
        if method == COPY:
            place = self.prior.modalities.index
            sources = {m: self._source(row, m) for m in self._copied(row)[1]}
            return {m: patient.stack[:, place(source)] for m, source in sources.items()}
        operators, data = measurement.operator.operators, measurement.data
        return {m: self._recon(method, row, m, operators[m])(data[m]) for m in row.scored}

    def _recon(self, method: str, row: Row, modality: str, operator: Operator) -> Recon:
        """The reconstruction of a modality's data by a method with its tuned weight."""
        scan = scan_of(operator)
        if scan is not None and method == ZERO_FILLED:
            return lambda y: image_of(scan, scan.adjoint(y))
        (own,) = (text for text in row.inputs if text.startswith(f"{modality}="))
        solver = partial(tikhonov, operator) if scan is None else partial(TUNED[method], scan)
        if method in UNTUNED and (self.quick or not self._tunable):
            return solver(UNTUNED[method])
        weight = self._tuned(
            f"{method}: {own}", lambda: tuned(solver, *self._measured(modality, operator))
        )
        return solver(weight)

    def _copied(self, row: Row) -> tuple[list[str], list[str]]:
        """The given MR, and the MR to which it can be copied: modalities without a unit."""
        return [m for m in row.clean if m in self._mr], [m for m in row.scored if m in self._mr]

    def _source(self, row: Row, target: str) -> str:
        """The given image that is copied: the best one on val, or for the prior's validation."""
        given, _ = self._copied(row)
        if len(given) == 1:
            return given[0]
        if not self._tunable:
            return max(given, key=lambda m: self._near(target)[m])
        names = self.prior.modalities
        places = [names.index(m) for m in given]

        def best() -> str:
            stacks = [patient.stack for patient in self._val]
            return names[best_copy(stacks, places, names.index(target))]

        return str(self._tuned(f"{COPY}: {target} from {'&'.join(given)}", best))

    def _tuned(self, key: str, tune: Callable[[], float | str]) -> Any:
        """The tuned value from before, or a new one."""
        if key not in self.tuned_so_far():
            found = {key: tune()} | self.tuned_so_far()  # another process may have been quicker
            write_text(self.kept, json.dumps(found, indent=2) + "\n")
        return self.tuned_so_far()[key]

    def tuned_so_far(self) -> dict[str, Any]:
        """{method and its images: weight, or the image to copy}."""
        found: dict[str, Any] = json.loads(self.kept.read_text()) if self.kept.exists() else {}
        return found

    def prepare(self, method: str, row: Row, operator: BlockDiagonal) -> None:
        """Fit or tune what the method needs, once for all patients."""
        if method == COPY:
            for m in self._copied(row)[1]:
                self._source(row, m)
            return
        if method in LEARNT:
            for m in row.scored:
                self._learnt(row.clean, m)
            return
        for m in row.scored:
            self._recon(method, row, m, operator.operators[m])

    def _measured(self, modality: str, scan: Operator) -> tuple[list[Tensor], list[Tensor]]:
        """The data and truths of val."""
        m = self.prior.modalities.index(modality)
        truths = [patient.stack[:, m] for patient in self._val]
        operator = BlockDiagonal({modality: scan})
        data = [simulate(operator, x[:, None], seed)[modality] for seed, x in enumerate(truths)]
        return data, truths

    @cached_property
    def _val(self) -> list[Patient]:
        paths = list(self.people.groups.get("val", {}).values())[:TUNING_PATIENTS]
        read = (read_patient(p, self.prior, slices=Slices(TUNING_SLICES)) for p in paths)
        found = [patient for patient in read if patient is not None and patient.places]
        if not found:
            raise UserError(
                "references are tuned on the group val, in which nobody has all of "
                f"{', '.join(self.prior.modalities)}; add somebody, or give --no-references"
            )
        return found

    @cached_property
    def _train(self) -> Tensor:
        return training_slices(
            list(self.people.groups["train"].values()), self.prior, TRAINING_SLICES
        )

    def _learn(
        self, clean: tuple[str, ...], target: str
    ) -> Mapping[str, Callable[[Tensor], Tensor]]:
        place = self.prior.modalities.index
        return synthesis(self._train, [place(m) for m in clean], place(target))
