"""Make a patient's measurement from files and --modalities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from any2all_core.answers import Answers
from any2all_core.named_priors import bundled_prior
from any2all_core.options import option_fields
from any2all_core.prior import DiffusionPrior
from any2all_core.reconstruct import complete, simulate
from any2all_core.registry import make_plugin
from any2all_core.stack_format import Range, StackFormat
from any2all_data.dicom import Series
from any2all_data.own_grid import OwnGrid
from any2all_data.patient import Volume, to_stack
from any2all_data.patient_files import find_file
from any2all_data.patient_volumes import how_to_resample, open_patient
from any2all_operators import BlockDiagonal, Identity, Measured, Operator, UserError, Zero
from torch import Tensor

from any2all_app.grammar import ModalitySpec, parse_slices
from any2all_app.named_prior import NamedMethod, NamedPrior
from any2all_app.scales import scales

Trained = DiffusionPrior | Answers
"""A prior or a method: it completes a patient and says how the images are scaled."""


@dataclass(frozen=True)
class Built:
    """A plugin's name and options, and the operator that it built.

    ``operator`` simulates, or belongs to a file. ``measured`` is the measurement read from a file.
    """

    name: str
    options: dict[str, Any]
    operator: Operator
    measured: Measured | None = None


@dataclass(frozen=True)
class PatientMeasurement:
    """The measurement of a patient's slices.

    - ``asked``: the slices to write, on the prior's grid.
    - ``slice_ids``: those of them with usable data, in the order of all data below.
    - ``source``: {modality: "measured", "simulated from the truth" or "missing"}.
    - ``built``: the operators named on the command line.
    - ``truth``: {modality: (B, H, W) in [0, 1]}, if a file gives it.
    - ``ranges``: {modality: the physical values that become 0 and 1}. ``units`` are their units.
    - ``clipped``: {modality: share of voxels outside of the range}, for modalities with an image.
    - ``format``: the prior's image format. ``reference`` and ``own`` are as in ``PatientVolumes``.
    """

    volumes: dict[str, Volume]
    asked: range
    slice_ids: list[int]
    operator: BlockDiagonal
    data: dict[str, Tensor]
    source: dict[str, str]
    built: dict[str, Built]
    truth: dict[str, Tensor]
    ranges: dict[str, Range]
    units: dict[str, str]
    clipped: dict[str, float]
    note: str
    format: StackFormat
    reference: Series | None = None
    own: OwnGrid | None = None

    def as_given(self, modality: str) -> bool:
        """Whether a modality's image was given clean, so that it is returned unchanged."""
        return self.operator.operators[modality] == Identity()

    def in_place(self, results: Tensor) -> Tensor:
        """Place results (D, B, M, H, W) of ``slice_ids`` in ``asked``, with 0 elsewhere."""
        draws, _, *size = results.shape
        whole = results.new_zeros(draws, len(self.asked), *size)
        whole[:, [z - self.asked.start for z in self.slice_ids]] = results
        return whole

    def own_slice(self, b: int) -> int:
        """Return the number of slice b of the data in the patient's own images."""
        z = self.slice_ids[b]
        if self.own is None:
            return z
        volume = next(iter(self.volumes.values()))
        return self.own.number(volume.affine, volume.slices.shape[1:], z)

    @property
    def slice_distance(self) -> float:
        """Return the distance between neighbouring slices, in mm."""
        if not self.volumes:
            raise UserError(
                "--through: raw data alone does not give the slice distance; add an image "
                "of the patient, or leave --through out"
            )
        affine = next(iter(self.volumes.values())).affine
        return float(np.linalg.norm(affine[:3, 2]))


@dataclass(frozen=True)
class Reading:
    """Options for reading a patient's files.

    ``simulate`` takes image files as the truth and simulates their measurement. ``slices`` is
    "FIRST:LAST" of the patient's own slices, also with ``resample``, or None for all. ``seed`` is
    that of the simulated noise. For ``trust_axes`` and ``resample`` see
    :func:`any2all_data.patient_volumes.open_patient`.
    """

    simulate: bool = False
    slices: str | None = None
    seed: int = 0
    trust_axes: bool = False
    resample: bool = False


def measure_patient(
    named: NamedPrior | NamedMethod,
    input_: str | None,
    specs: Sequence[ModalitySpec],
    reading: Reading,
) -> PatientMeasurement:
    """Read the patient's volumes and make the measurement that the specs describe."""
    prior, note = named.prior, ""
    if input_ is None:
        input_, note = _example(named.name)
    height, width = prior.format.size
    where = Path(input_) if Path(input_).is_dir() and not reading.simulate else None
    complete(BlockDiagonal({spec.modality: Zero() for spec in specs}), prior)  # names are known
    built = {spec.modality: build_operator(spec, height, width, where) for spec in specs}
    operator = complete(BlockDiagonal({m: b.operator for m, b in built.items()}), prior)
    measured = {m: b.measured for m, b in built.items() if b.measured is not None}
    needed = [m for m in prior.modalities if not isinstance(operator.operators[m], Zero)]
    if reading.resample and measured:
        raise UserError(
            f"--resample: {', '.join(measured)} is raw k-space, which is not resampled; leave "
            "--resample out, or give an image"
        )
    wanted = partial(parse_slices, reading.slices)
    how = (reading.trust_axes, reading.resample)
    patient = open_patient(input_, prior.format, *how, slices=wanted)
    there = list(volumes := patient.volumes)
    if not there and not measured:
        raise UserError(f"{input_}: no file of {', '.join(prior.modalities)}; give at least one")
    for m in needed:
        if m not in measured and m not in volumes:
            why = patient.missing.get(m, f"there is {', '.join(there) or 'nothing'}")
            raise UserError(f"{input_}: no {m} to be used ({why}); leave it out of --modalities")
    stack = to_stack(volumes) if there else torch.zeros(0, 0, height, width)
    if tuple(stack.shape[2:]) != (height, width):
        raise UserError(
            f"{input_}: slices of {stack.shape[2]} x {stack.shape[3]}, but the prior was trained "
            f"on {height} x {width} (--prior {named.name}); "
            f"{how_to_resample(input_, prior.format)}"
        )
    count = _slice_count(input_, volumes, measured)
    if patient.own is not None:
        asked = patient.own.planes(next(iter(volumes.values())).affine, count)
    else:
        asked = wanted(count)
    ids = _usable_slices(asked, measured)
    chosen = torch.tensor(ids)
    operator = operator.select(chosen)
    images = {m: stack[chosen, k] for k, m in enumerate(there)}
    blank = torch.zeros(len(ids), height, width)
    full = torch.stack([images.get(m, blank) for m in prior.modalities], 1)
    imaged = {m: op for m, op in operator.operators.items() if m not in measured}
    data = {m: reading.data[chosen] for m, reading in measured.items()}
    columns = [k for k, m in enumerate(prior.modalities) if m in imaged]
    data |= simulate(BlockDiagonal(imaged), full[:, columns], reading.seed, ids)
    operator = operator.estimated(data)
    source, truth = {}, dict(images)
    for m, block in operator.operators.items():
        if m not in needed:
            source[m] = "missing"
        elif m in measured:
            source[m] = "measured"
        elif _is_image(block, images[m]) and not reading.simulate:
            source[m] = "measured"
            data[m] = images[m]
            del truth[m]
        else:
            source[m] = "simulated from the truth"
    ranges, units = scales(prior.format, volumes, measured, source)
    clipped = {m: volumes[m].clipped(ids) for m in needed if m in volumes and m not in measured}
    return PatientMeasurement(
        volumes,
        asked,
        ids,
        operator,
        data,
        source,
        built,
        truth,
        ranges,
        units,
        clipped,
        _note(note or patient.note, prior),
        prior.format,
        patient.reference,
        patient.own,
    )


def _note(note: str, prior: Trained) -> str:
    """Return ``note``, which is empty for a real patient, with a remark on a virtual prior."""
    if not prior.settings.virtual:
        return note
    what = "method" if isinstance(prior, Answers) else "prior"
    if note:
        return f"{note}; {what} trained on virtual people"
    return (
        f"warning: this {what} was trained on virtual people only, who are simulated. Its images "
        "say nothing about a real patient"
    )


def build_operator(
    spec: ModalitySpec, height: int, width: int, patient: Path | None = None
) -> Built:
    """Build the operator that a spec names, for images (H, W).

    A registered class is an operator, or a builder. A builder makes an operator with
    ``build(height, width)``, or reads the patient's file that has one of its ``suffixes``.
    """
    made = make_plugin("any2all.operators", spec.operator, spec.options)
    options = {name: getattr(made, name) for name in option_fields(type(made))}
    if patient is not None:
        path = find_file(patient, spec.modality, getattr(made, "suffixes", ()))
        if path is not None:
            _refuse(
                spec,
                getattr(made, "simulation_only", ()),
                f"applies to a simulation, but {path} is read as it was measured. Leave it out, or "
                "simulate with --simulate",
            )
            measured: Measured = made.read(path, height, width)
            return Built(spec.operator, options, measured.operator, measured)
    _refuse(
        spec,
        getattr(made, "file_only", ()),
        f"applies to a file of {spec.operator}, but {spec.modality} is simulated. Leave it out, or "
        f"give {spec.modality}{' or '.join(getattr(made, 'suffixes', ()))}",
    )
    operator = made.build(height, width) if hasattr(made, "build") else made
    return Built(spec.operator, options, operator)


def _refuse(spec: ModalitySpec, options: Sequence[str], why: str) -> None:
    """Raise UserError for the first of these options that the spec gives."""
    for name in options:
        if name in spec.options:
            raise UserError(f"{spec.modality}={spec.operator}: {name}={spec.options[name]} {why}")


def _usable_slices(asked: range, measured: Mapping[str, Measured]) -> list[int]:
    """Return the requested slices for which every measurement has data."""
    left_out = {m: reading.details.get("slices_left_out", ()) for m, reading in measured.items()}
    used = [z for z in asked if not any(z in slices for slices in left_out.values())]
    if not used:
        names = ", ".join(m for m, slices in left_out.items() if slices)
        raise UserError(
            f"--slices {asked.start}:{asked.stop}: the k-space of {names} holds no samples or NaN "
            "there; expected some slice with samples. Choose other slices"
        )
    return used


def _example(prior_name: str) -> tuple[str, str]:
    if Path(prior_name).is_dir():
        raise UserError("--modalities without --input: give the patient's folder")
    bundled = bundled_prior(prior_name)
    if bundled.example is None:
        raise UserError(f"prior {prior_name} has no example patient; give --input FOLDER")
    return str(bundled.example), bundled.example_note


def _slice_count(patient: str, volumes: dict[str, Volume], measured: dict[str, Measured]) -> int:
    counts = {m: len(v.slices) for m, v in volumes.items()}
    counts |= {m: len(reading.data) for m, reading in measured.items()}
    if len(set(counts.values())) > 1:
        listing = ", ".join(f"{m} {count}" for m, count in counts.items())
        raise UserError(f"{patient}: numbers of slices differ ({listing}); expected one number")
    return next(iter(counts.values()))


def _is_image(operator: Operator, image: Tensor) -> bool:
    """Whether an image file can be this operator's measurement as it is."""
    data = operator.forward(image[:1])
    return data.shape == image[:1].shape and not data.is_complex()
