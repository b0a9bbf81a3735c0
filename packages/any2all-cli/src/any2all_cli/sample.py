"""``any2all sample``: a patient's files in, whole stacks out."""

from __future__ import annotations

import json
import shlex
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from any2all_core.prior import DiffusionPrior, weights_hash
from any2all_core.reconstruct import make_sampler, prior_folder, reconstruct
from any2all_core.sampler import Sampler
from any2all_operators import BlockDiagonal, UserError
from rich.console import Console
from rich.markup import escape
from torch import Tensor

from any2all_cli.copies import copy_is_nearer
from any2all_cli.derive import find_reference, write_dicom
from any2all_cli.known import Known, read_known
from any2all_cli.many import begin, patients_in
from any2all_cli.output import Folder, finished_folder, progress_bar
from any2all_cli.parsing import ModalitySpec, modality_specs, name_values
from any2all_cli.report import (
    check_finite,
    judge,
    tell,
    tell_scans,
    versions,
    write_draws,
    write_patient,
)
from any2all_cli.trust import Trust, blended, scan_of, trust

DEMO_PRIOR = "virtual"
"""Without --input: it has the virtual person of the demo."""
DEFAULT_PRIOR = "lgg"
"""For images of the user's own: it has seen real patients."""


@dataclass(frozen=True)
class Job:
    """What is done with each patient; ``specs``: what is known of it, nothing to draw new ones."""

    prior_name: str
    prior: DiffusionPrior
    prior_sha256: str
    specs: list[ModalitySpec]
    sampler_name: str
    sampler: Sampler
    draws: int
    through: float
    seed: int
    slices: str | None
    simulated: bool
    dicom: bool
    dicom_from: Path | None
    batch_size: int

    @property
    def identity(self) -> dict[str, Any]:
        """What the results of a run share, in which it may be gone on with."""
        return {
            "prior": self.prior_sha256,
            "modalities": [f"{s.modality}={s.operator}:{s.options}" for s in self.specs],
            "sampler": {"name": self.sampler_name, **vars(self.sampler)},
            "seed": self.seed,
            "draws": self.draws,
            "through_mm": self.through,
            "slices": self.slices,
            "simulated": self.simulated,
            "dicom": self.dicom,
        }


def run(
    prior_name: str | None,
    input_: str | None,
    modalities: str | None,
    sampler_name: str,
    settings: list[str],
    preset: str | None,
    output: Path | None,
    draws: int,
    through: float,
    seed: int,
    slices: str | None,
    simulated: bool,
    dicom: bool,
    dicom_from: Path | None,
    split: str | None,
    resume: bool,
    batch_size: int,
    save_memory: bool,
    precision: str,
    device: str,
) -> bool:
    """Sample one patient or many, or draw new ones; False when one of many was refused."""
    if draws < 1 or batch_size < 1:
        raise UserError(f"--draws {draws}, --batch-size {batch_size}: expected at least 1")
    specs = modality_specs(modalities) if modalities else []
    if not specs and (input_ or slices or simulated):
        raise UserError("--input, --slices and --simulate need --modalities: say what is known")
    if through and not specs:
        raise UserError("--through is for a patient's slices; give --modalities")
    if (dicom and not input_) or (dicom_from and not dicom):
        raise UserError("--dicom needs --input, and --dicom-from goes with --dicom: give both")
    many = patients_in(input_, split) if input_ else None
    if many is None and (split or resume):
        raise UserError("--split and --resume are for many patients: give a cohort or their folder")
    sampler = make_sampler(sampler_name, name_values(settings, "--set"), preset)
    name = prior_name or (DEFAULT_PRIOR if input_ else DEMO_PRIOR)
    path = prior_folder(name)

    def job() -> Job:
        prior = DiffusionPrior.load(path, precision, device)
        if save_memory:
            prior.save_memory()
        return Job(
            prior_name=name,
            prior=prior,
            prior_sha256=weights_hash(path),
            specs=specs,
            sampler_name=sampler_name,
            sampler=sampler,
            draws=draws,
            through=through,
            seed=seed,
            slices=slices,
            simulated=simulated,
            dicom=dicom,
            dicom_from=dicom_from,
            batch_size=batch_size,
        )

    if many is not None:
        if output is None or dicom_from:
            raise UserError("many patients need --output, and have no one --dicom-from series")
        return _sample_many(job(), many, output, resume)
    console = Console(stderr=True)
    with finished_folder(output) as folder:
        report, known = sample_one(job(), input_, folder, console)
    tell(console, report, folder.final, known)
    if dicom:
        where = folder.final / "dicom"
        console.print(f"DICOM in {where}: these files bear the patient's name", soft_wrap=True)
    return True


def sample_one(
    job: Job, input_: str | None, folder: Folder, console: Console
) -> tuple[dict[str, Any], Known | None]:
    """Check everything that can be checked, then sample, then fill the folder."""
    prior, known, reference = job.prior, None, None
    if job.specs:
        known = read_known(
            prior, job.prior_name, input_, job.specs, job.simulated, job.slices, job.seed
        )
        reference = find_reference(known, job.dicom_from) if job.dicom else None
    started = time.perf_counter()
    trusted = _trusted(job, known, console) if known else {}
    results = _sample(job, known, console)
    if known:
        for m, found in trusted.items():
            images = results[:, :, prior.modalities.index(m)]
            images.copy_(blended(found, known.operator.operators[m], known.data[m], images))
    check_finite(results, prior.modalities, known.slice_ids if known else [0])
    report: dict[str, Any] = {
        "command": shlex.join(["any2all", *_unnamed(sys.argv[1:], known)]),
        "versions": versions(),
        "prior": {
            "name": job.prior_name,
            "sha256": job.prior_sha256,
            "virtual": bool(prior.settings.training.get("virtual")),
        },
        "sampler": {"name": job.sampler_name, **vars(job.sampler)},
        "seed": job.seed,
        "draws": job.draws,
        "through_mm": job.through,
        "device": str(prior.device),
        "network_calls": job.sampler.steps,
        "seconds": round(time.perf_counter() - started, 2),
        "not_for_clinical_use": True,
    }
    if known is None:
        write_draws(folder.path, prior.modalities, results[:, 0])
    else:
        report |= judge(known, results, prior.settings.normalisation)
        for m, found in trusted.items():
            report["modalities"][m]["held_out"] = found.report()
            report["modalities"][m]["held_out_says"] = found.sentence
        beside = prior.settings.training.get("missing", {})
        for m, source in known.source.items():
            said = copy_is_nearer(beside, m, known.built) if source == "missing" else None
            if said:
                report["modalities"][m]["held_out_says"] = said
        write_patient(folder.path, known, results)
        if reference:
            write_dicom(folder.path / "dicom", known, known.in_place(results), reference, report)
    (folder.path / "report.json").write_text(json.dumps(report, indent=2, default=str) + "\n")
    return report, known


def _trusted(job: Job, known: Known, console: Console) -> dict[str, Trust]:
    """Whether the prior helps, of every scan that was measured."""
    found = {}
    for m, source in known.source.items():
        if source == "measured" and scan_of(known.operator.operators[m]) is not None:
            with console.status(f"{m}: holding samples out, to see whether the prior helps"):
                judged = trust(job.prior, known.operator, known.data, m, job.seed)
            if judged is not None:
                found[m] = judged
    return found


def _sample_many(job: Job, patients: dict[str, str], output: Path, resume: bool) -> bool:
    """A folder a patient in ``output``, each whole or not there; this process' share of them."""
    rank, processes = begin(output, job.identity, resume)
    console = Console(stderr=True)
    own = list(patients)[rank::processes]
    refused = 0
    for name in own:
        if (output / name).exists():
            console.print(escape(f"{name}: done before"), highlight=False)
            continue
        try:
            with finished_folder(output / name) as folder:
                report, _ = sample_one(job, patients[name], folder, console)
        except UserError as error:
            refused += 1
            console.print(escape(f"{name} refused: {error}"), soft_wrap=True)
            continue
        console.print(escape(f"{name}: {report['seconds']:.0f} s"), highlight=False)
        tell_scans(console, report, name)
    done = len(own) - refused
    console.print(escape(f"{done} of {len(own)} patients in {output}"), soft_wrap=True)
    return refused == 0


def _unnamed(arguments: list[str], known: Known | None) -> list[str]:
    """Without the folders of DICOM, which often bear a patient's name."""
    options = ["--dicom-from"] + (["--input"] if known and known.reference else [])
    hidden = list(arguments)
    for k, text in enumerate(arguments):
        option, equals, _ = text.partition("=")
        if option in options and equals:
            hidden[k] = f"{option}=DICOM"
        elif text in options and k + 1 < len(arguments):
            hidden[k + 1] = "DICOM"
    return hidden


def _sample(job: Job, known: Known | None, console: Console) -> Tensor:
    count = job.draws * (len(known.slice_ids) if known else 1)
    with progress_bar(console, "sampling", "network calls") as bar:
        task = bar.add_task("", total=job.sampler.steps * -(-count // job.batch_size))
        options: dict[str, Any] = {
            "seed": job.seed,
            "draws": job.draws,
            "batch_size": job.batch_size,
            "progress": lambda: bar.advance(task),
        }
        if known is None:
            shape = (1, *job.prior.settings.image_size)
            empty = BlockDiagonal({})
            return reconstruct(job.prior, empty, {}, job.sampler, shape=shape, **options)
        options["slice_ids"] = known.slice_ids
        options["through"] = job.through / known.slice_distance if job.through else 0.0
        return reconstruct(job.prior, known.operator, known.data, job.sampler, **options)
