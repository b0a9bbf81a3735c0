"""``any2all sample``: read a patient's files and write complete image stacks."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from any2all_app.bids_derivatives import DATASET, Subject, check_names, write_bids
from any2all_app.completion import Completer
from any2all_app.derived_series import find_reference, write_dicom
from any2all_app.folders import check_output, default_output, finished_folder
from any2all_app.grammar import modality_specs, sampler_name, sampler_of
from any2all_app.kept import KeptBatches
from any2all_app.measurement import PatientMeasurement
from any2all_app.named_prior import NamedMethod, NamedPrior
from any2all_app.results import Completion
from any2all_app.shared_run import begin
from any2all_app.terminal import observed
from any2all_core.named_priors import prior_folder
from any2all_core.prior_settings import read_settings
from any2all_data.modality_names import known_name
from any2all_data.patients import Patients
from any2all_operators import UserError
from rich.console import Console
from rich.markup import escape

from any2all_cli.tell import tell, tell_scans

DEMO_PRIOR = "virtual"
"""Prior without --input. It comes with a virtual person as its example."""
DEFAULT_PRIOR = "lgg"
"""Prior for a user's own images. It was trained on real patients."""


@dataclass(frozen=True)
class Request:
    """The options of the command, under their names."""

    prior: str | None
    input: str | None
    modalities: str | None
    sampler: str
    output: Path | None
    draws: int
    through: float
    seed: int
    slices: str | None
    simulate: bool
    trust_axes: bool
    resample: bool
    dicom: bool
    dicom_from: Path | None
    bids: bool
    split: str | None
    resume: bool
    batch_size: int
    save_memory: bool
    precision: str
    device: str
    method: str | None

    def completer(self) -> Completer:
        """Load the requested prior and sampler, or the method."""
        specs = modality_specs(self.modalities) if self.modalities else []
        sampler = sampler_of(self.sampler)  # a mistake in it is reported before weights are read
        prior: NamedPrior | NamedMethod
        if self.method is not None:
            prior = NamedMethod.load(self.method, specs, self.device)
        else:
            name = self.prior or (DEFAULT_PRIOR if self.input else DEMO_PRIOR)
            for spec in specs:
                known_name(spec.modality, read_settings(prior_folder(name)).modalities)
            prior = NamedPrior.load(name, self.precision, self.device)
            if self.save_memory:
                prior.prior.save_memory()
        return Completer(
            prior,
            tuple(specs),
            None if self.method is not None else sampler,
            "" if self.method is not None else sampler_name(self.sampler),
            draws=self.draws,
            through=self.through,
            seed=self.seed,
            slices=self.slices,
            simulate=self.simulate,
            trust_axes=self.trust_axes,
            batch_size=self.batch_size,
            resample=self.resample,
        )

    def check(self) -> None:
        """Raise UserError for options that do not go together."""
        needing = ("input", "slices", "simulate", "resample")
        given = [f"--{name}" for name in needing if getattr(self, name)]
        if given and not self.modalities:
            raise UserError(
                f"{', '.join(given)}: --input, --resample, --slices and --simulate need "
                "--modalities: name the known images, as T1=clean"
            )
        if self.method is not None:
            other = {
                "--prior": self.prior,
                "--sampler": self.sampler != "mds",
                "--save-memory": self.save_memory,
                "--precision": self.precision != "auto",
            }
            if named := [option for option, value in other.items() if value]:
                raise UserError(
                    f"{', '.join(named)} cannot be used with --method, which needs no prior or "
                    "sampler: leave it out"
                )
            if self.modalities and not self.input:
                raise UserError("--method has no example patient; give --input FOLDER")
        if self.dicom and not self.input:
            raise UserError("--dicom needs --input, the patient whose series are written")
        if self.bids and not self.input:
            raise UserError("--bids needs --input, the patient whose images are written")
        if self.dicom_from and not self.dicom:
            raise UserError("--dicom-from needs --dicom: give both")


def sample(request: Request) -> bool:
    """Sample one patient or many, or draw new people. Return False if a patient was refused."""
    request.check()
    patients = Patients.at(request.input) if request.input else None
    one = patients is None or patients.is_one
    group = None if one or patients is None else patients.of(request.split)
    for option, given in (("--split", request.split), ("--resume", request.resume)):
        if group is None and given:
            said = "; a run over one patient continues without it" if option == "--resume" else ""
            raise UserError(
                f"{option} is for many patients: give a cohort or a folder of patients{said}"
            )
    if group is not None and request.output is None:
        raise UserError("--input has many patients: give --output, a folder for their results")
    if group is not None and request.dicom_from:
        raise UserError("--dicom-from is one series, but --input has many patients: leave it out")
    completer = request.completer()
    if request.bids:
        check_names(completer.prior.prior.modalities)
    if group is not None and request.output is not None:
        return _sample_group(completer, group, request.output, request)
    console = Console(stderr=True)
    if not completer.known:
        _draw(completer, request.output, console)
        return True
    measurement = completer.measure(request.input)
    completion, folder = _sample(
        completer, measurement, request, request.output, subject=_subject(request, request.input)
    )
    tell(console, completion, folder)
    if request.dicom:
        where = folder / "dicom"
        console.print(f"DICOM in {where}: these files contain the patient's name", soft_wrap=True)
    return True


def _draw(completer: Completer, output: Path | None, console: Console) -> None:
    check_output(output)
    kept = completer.kept(default_output() if output is None else output)
    with observed(console) as observer, _kept_on_ctrl_c(kept, console):
        new = completer.draw(observer, kept)
    with finished_folder(output) as folder:
        new.save(folder.path, _command(None))
    kept.clear()
    console.print(f"{completer.draws} synthetic draws in {folder.final}", soft_wrap=True)


def _subject(request: Request, path: str | None) -> Subject | None:
    """Return the subject of the BIDS derivative, or None if none was requested."""
    return Subject.of(path) if request.bids and path is not None else None


def _sample(
    completer: Completer,
    measurement: PatientMeasurement,
    request: Request,
    output: Path | None,
    *,
    subject: Subject | None = None,
    beside: Path | None = None,
) -> tuple[Completion, Path]:
    """Check the options and files, then sample, then write the output folder.

    The BIDS derivative of ``subject`` is written in the folder ``beside``, or without one in the
    output folder.
    """
    check_output(output)
    reference = find_reference(measurement, request.dicom_from) if request.dicom else None
    console = Console(stderr=True)
    kept = completer.kept(default_output() if output is None else output, measurement)
    if shorter := _shorter_way(completer, measurement):
        console.print(shorter, highlight=False, soft_wrap=True)
    with observed(console) as observer, _kept_on_ctrl_c(kept, console):
        completion = completer.complete(measurement, observer, kept)
    with finished_folder(output) as folder:
        completion.save(folder.path, _command(measurement))
        if reference:
            write_dicom(folder.path / "dicom", completion, reference)
        if subject is not None:
            write_bids((beside or folder.path) / DATASET, folder.path, completion, subject)
    kept.clear()
    return completion, folder.final


MANY_SLICES = 10
"""Above this number of slices, sampling on a processor takes minutes."""


def _shorter_way(completer: Completer, measurement: PatientMeasurement) -> str:
    """Say how a result comes sooner, if it takes minutes and only images are given."""
    prior, slices = completer.prior.prior, len(measurement.slice_ids)
    only_images = all(measurement.as_given(m) for m in measurement.built)
    conditions = (
        slices > MANY_SLICES,
        only_images,
        completer.sampler_name.startswith("mds"),
        prior.device.type == "cpu",
        getattr(prior, "levels", "") == "separate",
    )
    if not all(conditions):
        return ""
    return (
        f"{slices} slices on a processor take minutes. --sampler mean takes one network call per "
        "slice and has the least error, as only images are given; --slices A:B takes some slices"
    )


@contextmanager
def _kept_on_ctrl_c(kept: KeptBatches, console: Console) -> Iterator[None]:
    """Tell the user that an interrupted run can continue."""
    try:
        yield
    except KeyboardInterrupt:
        if kept.folder.exists():
            console.print(
                "finished batches are kept; the same command continues from them", soft_wrap=True
            )
        raise


def _sample_group(
    completer: Completer, patients: dict[str, str], output: Path, request: Request
) -> bool:
    """Sample this process' share of the patients, each into its own folder of ``output``.

    A patient's folder appears only when it is complete.
    """
    identity = completer.identity | {"dicom": request.dicom, "bids": request.bids}
    rank, processes = begin(output, identity, request.resume)
    console = Console(stderr=True)
    own = list(patients)[rank::processes]
    refused = 0
    for name in own:
        if (output / name).exists():
            console.print(escape(f"{name}: already done"), highlight=False)
            continue
        try:
            measurement = completer.measure(patients[name])
            subject = _subject(request, patients[name])
            completion, _ = _sample(
                completer, measurement, request, output / name, subject=subject, beside=output
            )
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
    """Return this command line without the names of DICOM folders, which may identify a patient."""
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
