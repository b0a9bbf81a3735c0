"""Complete a patient with a prior: reconstruct measured images, and draw missing ones."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypedDict

import torch
from any2all_core.answers import Answers
from any2all_core.drawing import DrawOptions
from any2all_core.reconstruct import batches, solve
from any2all_core.reconstruct import complete as complete_operator
from any2all_core.sampler import Sampled, Sampler, Solver, passes_of
from any2all_data.modality_names import known_name
from any2all_operators import BlockDiagonal, Measurement, UserError
from torch import Tensor

from any2all_app.copies import METHOD, PRIOR, quality_of
from any2all_app.grammar import ModalitySpec
from any2all_app.kept import KeptBatches, fingerprint
from any2all_app.measurement import PatientMeasurement, Reading, measure_patient
from any2all_app.named_prior import NamedMethod, NamedPrior
from any2all_app.observer import SILENT, Observer, PassCount
from any2all_app.report import check_finite, judge, unlike_training, versions
from any2all_app.report_format import Report, RunReport
from any2all_app.results import Completion, NewPeople
from any2all_app.trust import Trust, blended, scan_of, trust

SAMPLING = "sampling, network passes"


class CompleterOptions(TypedDict, total=False):
    """Options of a :class:`Completer` beside the prior, the known modalities and the sampler."""

    draws: int
    through: float
    seed: int
    slices: str | None
    simulate: bool
    trust_axes: bool
    batch_size: int
    resample: bool


@dataclass(frozen=True)
class Completer:
    """Completes patients with a prior and a sampler, or with a trained method.

    Parameters
    ----------
    prior
        The prior, or the trained method, with its name.
    known
        One spec per known modality; the prior's other modalities are missing. An empty tuple
        draws new people.
    sampler, sampler_name
        The sampler and its name in reports; None for a method, which needs none.
    draws
        Number of draws per slice. Their mean is the result, their standard deviation its spread.
    through
        Correlation length of the noise across slices, in mm; 0 draws each slice independently.
    seed
        Seed of all random numbers.
    slices
        "FIRST:LAST" of the patient's own slices, LAST not included, counted from the lowest; None
        takes all.
    simulate
        Whether image files are the truth, from which a measurement is simulated.
    trust_axes
        Whether a NIfTI file whose qform and sform codes are 0 is read as RAS+ instead of refused.
    batch_size
        Slices of one network call.
    resample
        Whether a patient's images are registered and resampled to the prior's grid. The results
        are then resampled to the patient's own grid.
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
    resample: bool = False

    def __post_init__(self) -> None:
        names = [known_name(spec.modality, self.prior.prior.modalities) for spec in self.known]
        if twice := {name for name in names if names.count(name) > 1}:
            raise UserError(f"--modalities: {', '.join(sorted(twice))} is given twice")
        known = (replace(s, modality=name) for s, name in zip(self.known, names, strict=True))
        object.__setattr__(self, "known", tuple(known))
        for option, count in (("--draws", self.draws), ("--batch-size", self.batch_size)):
            if count < 1:
                raise UserError(f"{option} {count}: expected at least 1")
        if self.draws > 1 and not self._solver.random:
            raise UserError(
                f"--draws {self.draws}: {self.sampler_name or self.prior.name} has one answer, "
                "whatever the seed; give --draws 1, or another --sampler"
            )
        if self.through and not self.known:
            raise UserError("--through needs a patient's slices; give --modalities")

    @property
    def identity(self) -> dict[str, Any]:
        """Return the settings that must be equal for a run to continue in the same folder."""
        return {
            "prior": self.prior.sha256,
            "modalities": [f"{s.modality}={s.operator}:{s.options}" for s in self.known],
            "sampler": self._sampler,
            "seed": self.seed,
            "draws": self.draws,
            "through_mm": self.through,
            "slices": self.slices,
            "simulated": self.simulate,
        } | {name: True for name in ("trust_axes", "resample") if getattr(self, name)}

    def measure(self, patient: str | Path | None) -> PatientMeasurement:
        """Read what is known of a patient.

        Parameters
        ----------
        patient
            A folder of <modality>.nii.gz or of DICOM, or COHORT/PATIENT; None is the prior's own
            example.

        Returns
        -------
        PatientMeasurement
            The operators and data of the requested slices.

        Raises
        ------
        UserError
            If there is no such patient, or its files do not match ``known``.
        """
        return measure_patient(
            self.prior,
            None if patient is None else str(patient),
            self.known,
            Reading(self.simulate, self.slices, self.seed, self.trust_axes, self.resample),
        )

    def kept(self, beside: Path, measurement: PatientMeasurement | None = None) -> KeptBatches:
        """Return the store of a request's finished batches, beside its output.

        Only a request with the same prior, options, versions, seed and input finds them again.
        ``measurement`` is None for new people.
        """
        prior = self.prior.prior
        request = self.identity | {
            "batch_size": self.batch_size,
            "precision": None
            if isinstance(prior, Answers)
            else str(next(prior.unet.parameters()).dtype),
            "device": prior.device.type,
            "versions": versions(),
        }
        if measurement is not None:
            images = {m: (v.slices, v.affine) for m, v in measurement.volumes.items()}
            asked = (measurement.asked, measurement.slice_ids)
            read = (measurement.operator.operators, measurement.data, images, asked)
            request["input"] = fingerprint(read)
        return KeptBatches(beside, request)

    def complete(
        self,
        measurement: PatientMeasurement,
        observer: Observer = SILENT,
        kept: KeptBatches | None = None,
    ) -> Completion:
        """Reconstruct and draw the images, and judge every scan by held-out samples.

        ``kept`` stores finished batches, so that an interrupted call can continue. The caller
        clears it after saving the result.

        Raises
        ------
        UserError
            If a result is not finite.
        """
        prior, started = self.prior.prior, time.perf_counter()
        trusted = self._trusted(measurement, observer)
        options: DrawOptions = {"slice_ids": measurement.slice_ids, "kept": kept}
        if self.through:
            options["through"] = self.through / measurement.slice_distance
        asked = Measurement(measurement.operator, measurement.data)
        passes = passes_of(self._solver, asked)
        results = self._drawn(asked, passes, options, observer)
        for m, found in trusted.items():
            images = results[:, :, prior.modalities.index(m)]
            operator = measurement.operator.operators[m]
            images.copy_(blended(found, operator, measurement.data[m], images))
        check_finite(results, prior.modalities, measurement.slice_ids)
        report: Report = {**self._report(started, passes), **judge(measurement, results)}
        for m, warning in unlike_training(measurement, prior.settings.looks).items():
            report["modalities"][m].setdefault("warnings", []).append(warning)
        for m, found in trusted.items():
            report["modalities"][m]["held_out"] = found.report()
            report["modalities"][m]["held_out_says"] = found.sentence
        beside, who = prior.settings.nearness, METHOD if isinstance(prior, Answers) else PRIOR
        for m, source in measurement.source.items():
            if source != "missing":
                continue
            is_mr = prior.format[m].range is None
            said = quality_of(beside, m, measurement.built, who, with_copy=is_mr)
            report["modalities"][m]["held_out_says"] = said
        return Completion(results, measurement, report)

    def draw(self, observer: Observer = SILENT, kept: KeptBatches | None = None) -> NewPeople:
        """Draw ``draws`` stacks of people who do not exist; ``kept`` as in :meth:`complete`."""
        prior, started = self.prior.prior, time.perf_counter()
        options: DrawOptions = {"shape": (1, *prior.format.size), "kept": kept}
        nothing = complete_operator(BlockDiagonal({}), prior)
        asked = Measurement(nothing, {m: torch.zeros(1, 0) for m in prior.modalities})
        passes = passes_of(self._solver, asked)
        results = self._drawn(asked, passes, options, observer)
        check_finite(results, prior.modalities, [0])
        return NewPeople(results[:, 0], prior.modalities, self._report(started, passes))

    def _drawn(
        self, asked: Measurement, passes: int, options: DrawOptions, observer: Observer
    ) -> Tensor:
        """Return draws (D, B, M, H, W). Kept batches are not drawn again."""
        kept = options["kept"]
        parts = list(batches(self.draws * len(asked), self.batch_size))
        todo = [part for part in parts if kept is None or kept.get(part) is None]
        if len(todo) < len(parts):
            done = len(parts) - len(todo)
            observer.say(f"continuing: {done} of {len(parts)} batches of this request are finished")
        sizes = [len(part) for part in todo]
        if todo:
            steps = self._solver.steps
            options["progress"] = PassCount(observer, SAMPLING, sizes, steps=steps, passes=passes)
        options |= {"seed": self.seed, "draws": self.draws, "batch_size": self.batch_size}
        known = {m: y for m, y in asked.data.items() if y.numel()}
        return solve(self._solver, asked.operator, known, **options)

    @property
    def _solver(self) -> Solver:
        prior = self.prior.prior
        if isinstance(prior, Answers):
            return prior
        assert self.sampler is not None, "a prior needs a sampler"
        return Sampled(prior, self.sampler)

    @property
    def _sampler(self) -> dict[str, Any]:
        """Return the report's entries about the sampler."""
        prior = self.prior.prior
        if isinstance(prior, Answers):
            return {"name": prior.fitted.name, "dc": prior.dc}
        return {"name": self.sampler_name, **vars(self.sampler)}

    def _trusted(self, measurement: PatientMeasurement, observer: Observer) -> dict[str, Trust]:
        """Test for every measured scan whether the prior helps. A method is not tested."""
        found: dict[str, Trust] = {}
        prior = self.prior.prior
        if isinstance(prior, Answers):
            return found
        for m, source in measurement.source.items():
            if source == "measured" and scan_of(measurement.operator.operators[m]) is not None:
                what = f"{m}: testing on held-out samples whether the prior helps"
                observer.progress(what, 0, 1)
                judged = trust(prior, measurement.operator, measurement.data, m, seed=self.seed)
                observer.progress(what, 1, 1)
                if judged is not None:
                    found[m] = judged
        return found

    def _report(self, started: float, passes: int) -> RunReport:
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
            "network_passes": passes,
            "seconds": round(time.perf_counter() - started, 2),
            "not_for_clinical_use": True,
        }
