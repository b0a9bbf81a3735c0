"""A patient's images completed by a prior: measured ones reconstructed, missing ones drawn."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from any2all_core.fitted import WEIGHTS, Answers, FittedMethod
from any2all_core.options import parse_options
from any2all_core.prior import DiffusionPrior, weights_hash
from any2all_core.reconstruct import prior_folder, solve
from any2all_core.sampler import Sampled, Sampler, Solver
from any2all_data.normalise import Array
from any2all_operators import BlockDiagonal, UserError
from torch import Tensor

from any2all_app.copies import copy_is_nearer
from any2all_app.folders import is_free
from any2all_app.grammar import (
    ModalitySpec,
    modality_specs,
    name_and_options,
    name_values,
    sampler_of,
)
from any2all_app.measurement import PatientMeasurement, measure_patient
from any2all_app.observer import SILENT, Count, Observer
from any2all_app.report import (
    check_finite,
    judge,
    physical_images,
    versions,
    write_draws,
    write_patient,
    write_preview,
)
from any2all_app.trust import Trust, blended, scan_of, trust

SAMPLING = "sampling, network calls"


@dataclass(frozen=True)
class NamedPrior:
    """A prior, the name that it was asked for by, and the SHA-256 of its weights."""

    name: str
    prior: DiffusionPrior
    sha256: str

    @staticmethod
    def load(name: str | Path, precision: str = "auto", device: str = "auto") -> NamedPrior:
        """A folder, an installed prior's name or hf:OWNER/NAME; see ``DiffusionPrior.load``."""
        folder = prior_folder(name)
        prior = DiffusionPrior.load(folder, precision, device)
        return NamedPrior(str(name), prior, weights_hash(folder))


@dataclass(frozen=True)
class NamedMethod:
    """A trained method that answers about ``modalities``, what it was called, and its SHA-256."""

    name: str
    prior: Answers
    sha256: str

    @staticmethod
    def load(text: str, known: Sequence[ModalitySpec], device: str = "auto") -> NamedMethod:
        """FOLDER[:dc=true], asked about what it can give of a patient of whom this is known."""
        name, texts = name_and_options(text)
        options = parse_options(Answers, name_values(texts, "method option"), f"method {name}")
        fitted = FittedMethod.load(name, device)
        modalities = fitted.answered([s.modality for s in known]) or fitted.modalities
        return NamedMethod(
            name, Answers(fitted, modalities, **options), weights_hash(name, WEIGHTS)
        )


@dataclass(frozen=True)
class Completer:
    """How patients are completed.

    Parameters
    ----------
    prior
        The prior, or the trained method, with its name.
    known
        What is known of a patient, one spec a modality; all others of the prior are missing.
        Nothing at all draws new people.
    sampler, sampler_name
        How it is drawn, and what reports call that; None for a method, which answers by itself.
    draws
        Draws of each slice. Their mean is the result, and their standard deviation its spread.
    through
        Over so many mm through the slices the noise of a draw is alike; 0 draws each slice apart.
    seed
        Seed of all random numbers.
    slices
        "FIRST:LAST", LAST not included, counted from the lowest; None takes all.
    simulate
        Whether image files are the truth, which is measured virtually, and not the measurement.
    trust_axes
        Whether NIfTI that doesn't say how its axes lie is read with x to the right, y to the
        front and z up; it is refused otherwise.
    batch_size
        Slices of one network call.
    """

    prior: NamedPrior | NamedMethod
    known: tuple[ModalitySpec, ...]
    sampler: Sampler | None = None
    sampler_name: str = ""
    draws: int = 1
    through: float = 0.0
    seed: int = 0
    slices: str | None = None
    simulate: bool = False
    trust_axes: bool = False
    batch_size: int = 8

    def __post_init__(self) -> None:
        if self.draws < 1 or self.batch_size < 1:
            raise UserError(
                f"--draws {self.draws}, --batch-size {self.batch_size}: expected at least 1"
            )
        if self.through and not self.known:
            raise UserError("--through is for a patient's slices; give --modalities")

    @property
    def identity(self) -> dict[str, Any]:
        """What the results of a run share, in which it may be gone on with."""
        return {
            "prior": self.prior.sha256,
            "modalities": [f"{s.modality}={s.operator}:{s.options}" for s in self.known],
            "sampler": self._sampler,
            "seed": self.seed,
            "draws": self.draws,
            "through_mm": self.through,
            "slices": self.slices,
            "simulated": self.simulate,
        } | ({"trust_axes": True} if self.trust_axes else {})

    def measure(self, patient: str | Path | None) -> PatientMeasurement:
        """What is known of a patient.

        Parameters
        ----------
        patient
            A folder of <modality>.nii.gz or of DICOM, or COHORT/PATIENT; None is the prior's own
            example.

        Raises
        ------
        UserError
            Where there is no such patient, or the files are not what ``known`` says.
        """
        return measure_patient(
            self.prior.prior,
            self.prior.name,
            None if patient is None else str(patient),
            list(self.known),
            self.simulate,
            self.slices,
            self.seed,
            self.trust_axes,
        )

    def complete(self, measurement: PatientMeasurement, observer: Observer = SILENT) -> Completion:
        """Reconstruct and draw; judge every scan by samples that are held out of it.

        Raises
        ------
        UserError
            Where a result is not finite.
        """
        prior, started = self.prior.prior, time.perf_counter()
        trusted = self._trusted(measurement, observer)
        options: dict[str, Any] = {"slice_ids": measurement.slice_ids}
        if self.through:
            options["through"] = self.through / measurement.slice_distance
        results = self._drawn(
            measurement.operator, measurement.data, len(measurement.slice_ids), options, observer
        )
        for m, found in trusted.items():
            images = results[:, :, prior.modalities.index(m)]
            operator = measurement.operator.operators[m]
            images.copy_(blended(found, operator, measurement.data[m], images))
        check_finite(results, prior.modalities, measurement.slice_ids)
        report = self._report(started)
        report |= judge(measurement, results)
        for m, found in trusted.items():
            report["modalities"][m]["held_out"] = found.report()
            report["modalities"][m]["held_out_says"] = found.sentence
        beside = prior.settings.nearness
        for m, source in measurement.source.items():
            said = copy_is_nearer(beside, m, measurement.built) if source == "missing" else None
            if said:
                report["modalities"][m]["held_out_says"] = said
        return Completion(results, measurement, report)

    def draw(self, observer: Observer = SILENT) -> NewPeople:
        """Stacks of people who do not exist, ``draws`` of them."""
        prior, started = self.prior.prior, time.perf_counter()
        options = {"shape": (1, *prior.settings.image_size)}
        results = self._drawn(BlockDiagonal({}), {}, 1, options, observer)
        check_finite(results, prior.modalities, [0])
        return NewPeople(results[:, 0], prior.modalities, self._report(started))

    def _drawn(
        self,
        operator: BlockDiagonal,
        data: Mapping[str, Tensor],
        slices: int,
        options: dict[str, Any],
        observer: Observer,
    ) -> Tensor:
        total = self._solver.steps * -(-self.draws * slices // self.batch_size)
        options |= {"seed": self.seed, "draws": self.draws, "batch_size": self.batch_size}
        options["progress"] = Count(observer, SAMPLING, total)
        return solve(self._solver, operator, data, **options)

    @property
    def _solver(self) -> Solver:
        prior = self.prior.prior
        if isinstance(prior, Answers):
            return prior
        assert self.sampler is not None, "a prior needs a sampler"
        return Sampled(prior, self.sampler)

    @property
    def _sampler(self) -> dict[str, Any]:
        """What reports say of how it is drawn."""
        prior = self.prior.prior
        if isinstance(prior, Answers):
            return {"name": prior.fitted.name, "dc": prior.dc}
        return {"name": self.sampler_name, **vars(self.sampler)}

    def _trusted(self, measurement: PatientMeasurement, observer: Observer) -> dict[str, Trust]:
        """Whether the prior helps, of every scan that was measured; a method is not asked."""
        found: dict[str, Trust] = {}
        prior = self.prior.prior
        if isinstance(prior, Answers):
            return found
        for m, source in measurement.source.items():
            if source == "measured" and scan_of(measurement.operator.operators[m]) is not None:
                what = f"{m}: holding samples out, to see whether the prior helps"
                observer.progress(what, 0, 1)
                judged = trust(prior, measurement.operator, measurement.data, m, self.seed)
                observer.progress(what, 1, 1)
                if judged is not None:
                    found[m] = judged
        return found

    def _report(self, started: float) -> dict[str, Any]:
        prior = self.prior.prior
        return {
            "versions": versions(),
            "prior": {
                "name": self.prior.name,
                "sha256": self.prior.sha256,
                "virtual": prior.settings.virtual,
            },
            "sampler": self._sampler,
            "seed": self.seed,
            "draws": self.draws,
            "through_mm": self.through,
            "device": str(prior.device),
            "network_calls": self._solver.steps,
            "seconds": round(time.perf_counter() - started, 2),
            "not_for_clinical_use": True,
        }


@dataclass(frozen=True)
class Completion:
    """A patient with every image of the prior.

    ``draws``: (D, B, M, H, W) in [0, 1], of the slices ``measurement.slice_ids``; ``report``: how
    they were made, how far they agree with what was measured, and what samples that were held out
    say.
    """

    draws: Tensor
    measurement: PatientMeasurement
    report: dict[str, Any]

    @property
    def modalities(self) -> tuple[str, ...]:
        """In the order of the prior."""
        return self.measurement.operator.modalities

    @property
    def images(self) -> dict[str, Array]:
        """{modality: (Z, H, W)}: the mean of the draws, in the units that its source has.

        A modality that was missing is in the prior's units: HU, SUV, or [0, 1] of MR. Row 0 is
        anterior, column 0 the patient's right, slice 0 the lowest.
        """
        return self._physical[0]

    @property
    def std(self) -> dict[str, Array]:
        """{modality: (Z, H, W)}: the standard deviation of several draws, in the same units."""
        return self._physical[1]

    @cached_property
    def _physical(self) -> tuple[dict[str, Array], dict[str, Array]]:
        return physical_images(self.measurement, self.draws)

    def save(self, folder: str | Path, command: str = "") -> None:
        """Write <modality>.nii.gz, <modality>_std.nii.gz, preview.png and report.json.

        command: what was typed, for the report. Raises UserError where the folder holds something
        already.
        """
        folder = _empty(folder)
        write_patient(folder, self.measurement, self.images, self.std)
        write_preview(folder, self.measurement, self.draws.mean(0))
        _write_report(folder, self.report, command)


@dataclass(frozen=True)
class NewPeople:
    """Stacks (D, M, H, W) in [0, 1] of people who do not exist, and how they were drawn."""

    draws: Tensor
    modalities: tuple[str, ...]
    report: dict[str, Any]

    def save(self, folder: str | Path, command: str = "") -> None:
        """Write draw_000/<modality>.nii.gz and so on, preview.png and report.json.

        command: what was typed, for the report. Raises UserError where the folder holds something
        already.
        """
        folder = _empty(folder)
        write_draws(folder, self.modalities, self.draws)
        _write_report(folder, self.report, command)


def complete(
    patient: str | Path | None,
    known: Mapping[str, str],
    prior: str | Path | NamedPrior = "lgg",
    sampler: str = "mds",
    *,
    draws: int = 1,
    seed: int = 0,
    slices: str | None = None,
    simulate: bool = False,
) -> Completion:
    """Complete one patient.

    Parameters
    ----------
    patient
        A folder of <modality>.nii.gz, raw k-space or DICOM, or COHORT/PATIENT; None is the prior's
        own example.
    known
        {modality: operator}, as {"T1": "clean", "FLAIR": "kspace:acceleration=4"}. All other
        modalities of the prior are missing and are drawn.
    prior
        A folder written by training, an installed prior's name, hf:OWNER/NAME, or one that is
        loaded already.
    sampler
        NAME[:OPTION=VALUE...], as "mds:steps=50"; ``preset`` is an option of all.
    draws, seed, slices, simulate
        See :class:`Completer`, which has some more.

    Returns
    -------
    Completion
        Images, their spread, and a report.

    Raises
    ------
    UserError
        In one line, what was given, what was expected, and what to do.

    References
    ----------
    arXiv 2602.08249
    """
    named = prior if isinstance(prior, NamedPrior) else NamedPrior.load(prior)
    specs = modality_specs(",".join(f"{m}={operator}" for m, operator in known.items()))
    completer = Completer(
        named,
        tuple(specs),
        sampler_of(sampler),
        name_and_options(sampler)[0],
        draws=draws,
        seed=seed,
        slices=slices,
        simulate=simulate,
    )
    return completer.complete(completer.measure(patient))


def _write_report(folder: Path, report: Mapping[str, Any], command: str) -> None:
    said = {"command": command, **report} if command else report
    (folder / "report.json").write_text(json.dumps(said, indent=2, default=str) + "\n")


def _empty(folder: str | Path) -> Path:
    folder = Path(folder)
    if not is_free(folder):
        raise UserError(f"{folder}: holds other results already; choose another folder")
    folder.mkdir(parents=True, exist_ok=True)
    return folder
