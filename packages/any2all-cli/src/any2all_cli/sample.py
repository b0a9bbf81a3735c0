"""``any2all sample``: a patient's files in, whole stacks out."""

from __future__ import annotations

import json
import shlex
import sys
import time
from pathlib import Path
from typing import Any

from any2all_core.prior import DiffusionPrior, weights_hash
from any2all_core.reconstruct import make_sampler, prior_folder, reconstruct
from any2all_core.sampler import Sampler
from any2all_operators import BlockDiagonal, UserError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from any2all_cli.derive import find_reference, write_dicom
from any2all_cli.known import Known, read_known
from any2all_cli.output import finished_folder
from any2all_cli.parsing import modality_specs, name_values
from any2all_cli.report import judge, tell, versions, write_draws, write_patient

DEFAULT_PRIOR = "lgg"


def run(
    prior_name: str | None,
    input_: str | None,
    modalities: str | None,
    sampler_name: str,
    settings: list[str],
    output: Path | None,
    draws: int,
    seed: int,
    slices: str | None,
    simulated: bool,
    dicom: bool,
    dicom_from: Path | None,
    batch_size: int,
    precision: str,
) -> None:
    """Check everything that can be checked, then sample, then write the output folder at once."""
    if draws < 1 or batch_size < 1:
        raise UserError(f"--draws {draws}, --batch-size {batch_size}: expected at least 1")
    specs = modality_specs(modalities) if modalities else []
    if not specs and (input_ or slices or simulated):
        raise UserError("--input, --slices and --simulate need --modalities: say what is known")
    if (dicom and not input_) or (dicom_from and not dicom):
        raise UserError("--dicom needs --input, and --dicom-from goes with --dicom: give both")
    sampler = make_sampler(sampler_name, name_values(settings, "--set"))
    console = Console(stderr=True)
    reference = None
    with finished_folder(output) as folder:
        name = prior_name or DEFAULT_PRIOR
        path = prior_folder(name)
        prior = DiffusionPrior.load(path, precision)
        known = read_known(prior, name, input_, specs, simulated, slices, seed) if specs else None
        if known and dicom:
            reference = find_reference(known, dicom_from)
        started = time.perf_counter()
        results = _sample(prior, sampler, known, draws, seed, batch_size, console)
        seconds = time.perf_counter() - started
        report: dict[str, Any] = {
            "command": shlex.join(["any2all", *_unnamed(sys.argv[1:], known)]),
            "versions": versions(),
            "prior": {
                "name": str(name),
                "sha256": weights_hash(path),
                "virtual": bool(prior.settings.training.get("virtual")),
            },
            "sampler": {"name": sampler_name, **vars(sampler)},
            "seed": seed,
            "draws": draws,
            "network_calls": sampler.steps,
            "seconds": round(seconds, 2),
            "not_for_clinical_use": True,
        }
        if known is None:
            write_draws(folder.path, prior.modalities, results[:, 0])
        else:
            report |= judge(known, results)
            write_patient(folder.path, known, results)
            if reference:
                write_dicom(folder.path / "dicom", known, results, reference, report)
        (folder.path / "report.json").write_text(json.dumps(report, indent=2, default=str) + "\n")
    tell(console, report, folder.final, known)
    if reference:
        console.print(
            f"DICOM in {folder.final / 'dicom'}: these files bear the patient's name",
            soft_wrap=True,
        )


def _unnamed(arguments: list[str], known: Known | None) -> list[str]:
    """Without the folders of DICOM, which often bear a patient's name."""
    hidden = list(arguments)
    for option in ("--input", "--dicom-from"):
        if option in hidden and (option == "--dicom-from" or (known and known.reference)):
            hidden[hidden.index(option) + 1] = "DICOM"
    return hidden


def _sample(
    prior: DiffusionPrior,
    sampler: Sampler,
    known: Known | None,
    draws: int,
    seed: int,
    batch_size: int,
    console: Console,
) -> Tensor:
    count = draws * (len(known.slice_ids) if known else 1)
    columns = (
        TextColumn("sampling"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("network calls"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("", total=sampler.steps * -(-count // batch_size))
        options: dict[str, Any] = {
            "seed": seed,
            "draws": draws,
            "batch_size": batch_size,
            "progress": lambda: bar.advance(task),
        }
        if known is None:
            shape = (1, *prior.settings.image_size)
            return reconstruct(prior, BlockDiagonal({}), {}, sampler, shape=shape, **options)
        return reconstruct(
            prior, known.operator, known.data, sampler, slice_ids=known.slice_ids, **options
        )
