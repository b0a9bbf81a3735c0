"""``any2all sample``: a patient's files in, whole stacks out."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from any2all_app.completion import Completer, Completion, NamedMethod, NamedPrior
from any2all_app.derived_series import find_reference, write_dicom
from any2all_app.folders import Folder, finished_folder
from any2all_app.grammar import modality_specs, name_values
from any2all_app.measurement import PatientMeasurement
from any2all_app.shared_run import begin
from any2all_app.terminal import observed
from any2all_core.reconstruct import make_sampler
from any2all_data.patients import Patients
from any2all_operators import UserError
from rich.console import Console
from rich.markup import escape

from any2all_cli.tell import tell, tell_scans

DEMO_PRIOR = "virtual"
"""Without --input: it has the virtual person of the demo."""
DEFAULT_PRIOR = "lgg"
"""For images of the user's own: it has seen real patients."""


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
    trust_axes: bool,
    dicom: bool,
    dicom_from: Path | None,
    split: str | None,
    resume: bool,
    batch_size: int,
    save_memory: bool,
    precision: str,
    device: str,
    method: str | None,
) -> bool:
    """Sample one patient or many, or draw new ones; False when one of many was refused."""
    specs = modality_specs(modalities) if modalities else []
    if not specs and (input_ or slices or simulated):
        raise UserError("--input, --slices and --simulate need --modalities: say what is known")
    if (dicom and not input_) or (dicom_from and not dicom):
        raise UserError("--dicom needs --input, and --dicom-from goes with --dicom: give both")
    patients = Patients.at(input_) if input_ else None
    one = patients is None or patients.is_one
    many = None if one or patients is None else patients.of(split)
    if one and (split or resume):
        raise UserError("--split and --resume are for many patients: give a cohort or their folder")
    if many is not None and (output is None or dicom_from):
        raise UserError("many patients need --output, and have no one --dicom-from series")
    sampler = make_sampler(sampler_name, name_values(settings, "--set"), preset)
    if method is not None:
        other = {
            "--prior": prior_name, "--sampler": sampler_name != "mds", "--set": settings,
            "--preset": preset, "--save-memory": save_memory, "--precision": precision != "auto",
        }  # fmt: skip
        if named := [option for option, value in other.items() if value]:
            raise UserError(f"--method and {', '.join(named)}: a method answers by itself")
        if specs and not input_:
            raise UserError("--method has no example patient; give --input FOLDER")
    name = prior_name or (DEFAULT_PRIOR if input_ else DEMO_PRIOR)
    completer = Completer(
        NamedMethod.load(method, specs, device)
        if method is not None
        else NamedPrior.load(name, precision, device),
        tuple(specs),
        None if method is not None else sampler,
        sampler_name,
        draws=draws,
        through=through,
        seed=seed,
        slices=slices,
        simulate=simulated,
        trust_axes=trust_axes,
        batch_size=batch_size,
    )
    if save_memory and isinstance(completer.prior, NamedPrior):
        completer.prior.prior.save_memory()
    if many is not None and output is not None:
        return _sample_many(completer, many, output, resume, dicom)
    console = Console(stderr=True)
    if not specs:
        with finished_folder(output) as folder, observed(console) as observer:
            new = completer.draw(observer)
            new.save(folder.path, _command(None))
        console.print(f"{draws} synthetic draws in {folder.final}")
        return True
    with finished_folder(output) as folder:
        completion = _sample(completer, input_, folder, dicom, dicom_from)
    tell(console, completion, folder.final)
    if dicom:
        where = folder.final / "dicom"
        console.print(f"DICOM in {where}: these files bear the patient's name", soft_wrap=True)
    return True


def _sample(
    completer: Completer, input_: str | None, folder: Folder, dicom: bool, dicom_from: Path | None
) -> Completion:
    """Check everything that can be checked, then sample, then fill the folder."""
    measurement = completer.measure(input_)
    reference = find_reference(measurement, dicom_from) if dicom else None
    with observed(Console(stderr=True)) as observer:
        completion = completer.complete(measurement, observer)
    completion.save(folder.path, _command(measurement))
    if reference:
        write_dicom(folder.path / "dicom", completion, reference)
    return completion


def _sample_many(
    completer: Completer, patients: dict[str, str], output: Path, resume: bool, dicom: bool
) -> bool:
    """A folder a patient in ``output``, each whole or not there; this process' share of them."""
    rank, processes = begin(output, completer.identity | {"dicom": dicom}, resume)
    console = Console(stderr=True)
    own = list(patients)[rank::processes]
    refused = 0
    for name in own:
        if (output / name).exists():
            console.print(escape(f"{name}: done before"), highlight=False)
            continue
        try:
            with finished_folder(output / name) as folder:
                completion = _sample(completer, patients[name], folder, dicom, None)
        except UserError as error:
            refused += 1
            console.print(escape(f"{name} refused: {error}"), soft_wrap=True)
            continue
        said = f"{name}: {completion.report['seconds']:.0f} s"
        console.print(escape(said), highlight=False)
        tell_scans(console, completion.report, name)
    done = len(own) - refused
    console.print(escape(f"{done} of {len(own)} patients in {output}"), soft_wrap=True)
    return refused == 0


def _command(measurement: PatientMeasurement | None) -> str:
    """This process' command line, without the folders of DICOM: they often bear a name."""
    options = ["--dicom-from"]
    options += ["--input"] if measurement and measurement.reference else []
    return shlex.join(["any2all", *_unnamed(sys.argv[1:], options)])


def _unnamed(arguments: list[str], options: list[str]) -> list[str]:
    hidden = list(arguments)
    for k, text in enumerate(arguments):
        option, equals, _ = text.partition("=")
        if option in options and equals:
            hidden[k] = f"{option}=DICOM"
        elif text in options and k + 1 < len(arguments):
            hidden[k + 1] = "DICOM"
    return hidden
