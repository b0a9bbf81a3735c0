"""The patients of a study, and those on whom its references are fitted and tuned."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from any2all_app.measurement import Trained
from any2all_data.appearance import unlike
from any2all_data.coverage import covered, in_head
from any2all_data.patient import Volume, to_stack
from any2all_data.patient_volumes import how_to_resample, open_patient
from any2all_data.patients import Patients
from any2all_data.splits import ENOUGH
from any2all_operators import UserError
from numpy.typing import NDArray
from torch import Tensor

from any2all_eval.masks import lesion_mask

ALIKE = 1.25
"""Largest ratio of the sides of two voxels that are of the same size."""


@dataclass(frozen=True)
class Slices:
    """The choice of a patient's slices, among those that show a head.

    Parameters
    ----------
    count
        Number of slices, evenly spread. None takes all.
    every
        Takes every N-th slice, from the lowest on.
    adjacent
        Whether the ``count`` slices are next to each other, in the middle.

    Raises
    ------
    UserError
        If two of these contradict each other, or a number is below 1.
    """

    count: int | None = None
    every: int = 1
    adjacent: bool = False

    def __post_init__(self) -> None:
        if self.every < 1 or (self.count is not None and self.count < 1):
            raise UserError(f"slices: {self.count}, every {self.every}; expected 1 or more")
        if self.count is not None and self.every > 1:
            raise UserError("--slices and --every both choose the slices; give one of them")
        if self.adjacent and self.count is None:
            raise UserError("--adjacent: how many slices? Give --slices N with it")

    def of(self, count: int) -> list[int]:
        """The indices of the chosen slices among this many, in their order."""
        if self.count is None:
            return list(range(0, count, self.every))
        if not self.adjacent:
            return evenly(count, self.count)
        first = max(count - self.count, 0) // 2
        return list(range(first, min(first + self.count, count)))


ALL = Slices()


@dataclass(frozen=True)
class Patient:
    """A patient's judged slices.

    ``stack`` is (B, M, H, W) in [0, 1]. ``places`` are the indices of its slices in the volume,
    lowest first. ``lesion`` is (B, H, W), or None if no mask was given. ``pixel`` is the area of a
    pixel in mm², and ``distance`` that of neighbouring slices in mm. ``volumes`` holds each
    modality as it was read, whole, and ``masks`` the masks of the challenges, {kind: (Z, H, W),
    bool}. Both are empty if only some of the slices with a head are judged. ``unlike`` says which
    images do not look like those of the training, {modality: in which respects}.
    """

    name: str
    stack: Tensor
    places: tuple[int, ...]
    lesion: Tensor | None
    pixel: float
    distance: float
    volumes: Mapping[str, Volume] = field(default_factory=dict)
    masks: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)
    unlike: Mapping[str, list[str]] = field(default_factory=dict)

    @property
    def seed(self) -> int:
        """The patient's own seed, which does not depend on other patients."""
        return zlib.crc32(self.name.encode())

    @property
    def head(self) -> Tensor:
        """(B, H, W), bool."""
        return in_head(self.stack)


@dataclass(frozen=True)
class People:
    """The patients of each group, {group: {name: input}}.

    ``virtual`` says whether they are virtual. ``split`` says whether they were divided into groups;
    without a split, all of them are in ``test``.
    """

    groups: Mapping[str, dict[str, str]]
    virtual: bool = False
    split: bool = True

    @property
    def note(self) -> str:
        """What a reader has to know of patients without a split; empty if there is one."""
        if self.split:
            return ""
        return (
            f"there is no test group, so all given patients ({len(self.groups['test'])}) are "
            "judged, and nobody is kept for tuning. The prior must not have been trained on them"
        )


def find_people(input_: str, group: str = "test") -> People:
    """The patients of a cohort, a folder with train, val and test, or patients without a split.

    A folder of patients and a single patient have no split. A cohort of fewer than ENOUGH patients
    without anybody in ``test`` is treated in the same way, because it is too small to be divided.

    Raises UserError if there is nobody in ``group``.
    """
    patients = Patients.at(input_)
    groups = patients.groups
    small = patients.place == "cohort" and len(patients.everybody) < ENOUGH
    split = bool(groups) and not (small and not groups.get("test"))
    people = People(
        groups if split else {"test": patients.everybody}, patients.virtual, split=split
    )
    if not people.groups.get(group):
        other = (
            "put patients into it with any2all prepare --split"
            if split
            else "these patients have no split, so leave --group out"
        )
        raise UserError(f"--input {input_}: nobody in its group {group}; {other}")
    return people


def read_patient(path: str, prior: Trained, name: str = "", slices: Slices = ALL) -> Patient | None:
    """A patient with every modality of the prior; None if one is missing.

    Raises UserError if the files do not fit together or do not fit the prior.
    """
    size = prior.format.size
    patient = open_patient(path, prior.format)
    if set(prior.modalities) - set(patient.volumes):
        return None
    stack = to_stack(patient.volumes)
    if tuple(stack.shape[2:]) != size:
        raise UserError(
            f"{path}: slices of {stack.shape[2]} x {stack.shape[3]}, but the prior was trained on "
            f"{size[0]} x {size[1]}; {how_to_resample(path, prior.format, alone=False)}"
        )
    places = covered(stack).nonzero().flatten().tolist()
    places = [places[k] for k in slices.of(len(places))]
    affine = next(iter(patient.volumes.values())).affine
    sides = np.linalg.norm(affine[:3, :3], axis=0)
    lesion = lesion_mask(path, stack, affine)
    return Patient(
        name,
        stack[places],
        tuple(places),
        None if lesion is None else lesion[places],
        float(sides[0] * sides[1]),
        float(sides[2]),
        patient.volumes if slices == ALL else {},
        unlike={
            m: found
            for k, m in enumerate(prior.modalities)
            if (found := unlike(stack[:, k].numpy(), prior.settings.looks.get(m, {})))
        },
    )


def why_left_out(path: str, prior: Trained) -> str:
    """Say why a patient that can be read is not judged."""
    lacking = [m for m in prior.modalities if m not in open_patient(path, prior.format).volumes]
    return f"there is no {', '.join(lacking)}" if lacking else "no slice shows a head"


def has_all(path: str, prior: Trained) -> bool:
    """Whether a patient can be read, has every modality of the prior, and shows a head."""
    try:
        patient = read_patient(path, prior, slices=Slices(1))
    except UserError:
        return False
    return patient is not None and bool(patient.places)


def check_somebody(people: Mapping[str, str], prior: Trained) -> str:
    """Raise UserError if none of these patients, {name: path}, can be judged.

    The message says why the first one was refused, or what it lacks. Returns a warning if the
    first one who can be judged has voxels of another size than the prior, or an empty string.
    """
    refused: UserError | None = None
    for path in people.values():
        try:
            patient = read_patient(path, prior, slices=Slices(1))
        except UserError as error:
            refused = refused or error
            continue
        if patient is not None and patient.places:
            return _other_voxels(patient, path, prior)
    if refused is not None:
        raise refused
    first, path = next(iter(people.items()))
    there = list(open_patient(path, prior.format).volumes)
    raise UserError(
        f"nobody of {len(people)} has all of {', '.join(prior.modalities)} and shows a head; "
        f"{first} has {', '.join(there) or 'none of them'}. Take a prior of the modalities that "
        "your patients have"
    )


def _other_voxels(patient: Patient, path: str, prior: Trained) -> str:
    """A warning if a side of a patient's voxels differs by more than ALIKE from the prior's."""
    grid = prior.format.grid
    if grid is None or grid.spacing is None:
        return ""
    own = (np.sqrt(patient.pixel), patient.distance)
    trained = (np.sqrt(grid.spacing[0] * grid.spacing[1]), grid.spacing[2])
    if all(1 / ALIKE < a / b < ALIKE for a, b in zip(own, trained, strict=True)):
        return ""
    pixel, between = (f"{a:.3g} mm, not {b:.3g} mm" for a, b in zip(own, trained, strict=True))
    return (
        f"the voxels are not those of the prior's training (pixels {pixel}; slice distance "
        f"{between}), so expect worse results; {how_to_resample(path, prior.format, alone=False)}"
    )


def evenly(count: int, slices: int) -> list[int]:
    """Indices of ``slices`` of ``count`` slices, evenly spread and none at an end."""
    if slices >= count:
        return list(range(count))
    return [round((i + 1) * count / (slices + 1)) for i in range(slices)]


def training_slices(paths: Sequence[str], prior: Trained, slices: int) -> Tensor:
    """This many slices (N, M, H, W) of each patient who has every modality."""
    read = [read_patient(path, prior, slices=Slices(slices)) for path in paths]
    stacks = [patient.stack for patient in read if patient is not None and patient.places]
    if not stacks:
        raise UserError(f"nobody in train has all of {', '.join(prior.modalities)}")
    return torch.cat(stacks)


def units(prior: Trained) -> dict[str, tuple[float, str]]:
    """{modality: (width of [0, 1] in physical units, unit)}, if the same for all patients."""
    ranges = prior.format.ranges
    return {m: (r.high - r.low, prior.format[m].unit) for m, r in ranges.items()}
