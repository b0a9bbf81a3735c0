"""A patient to be completed: a folder of NIfTI, one patient of a cohort, or a folder of DICOM."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from any2all_core.stack_format import Range, StackFormat
from any2all_operators import UserError

from any2all_data.cohort_entry import Entry
from any2all_data.dicom import Series
from any2all_data.dicom_headers import is_dicom
from any2all_data.files import is_nifti, tree
from any2all_data.kinds import kind_for, own_kinds
from any2all_data.normalise import Array, mr_scale
from any2all_data.patient import AXES, Volume, modality_path, read_patient
from any2all_data.patients import Patients
from any2all_data.people import differ
from any2all_data.ranking import choose
from any2all_data.rules import read_rules
from any2all_data.sources import Source, find_sources
from any2all_data.store import CohortStore

VIRTUAL = "a virtual person, simulated; no such person exists"


@dataclass(frozen=True)
class Patient:
    """What is there of a patient, on one grid.

    volumes: {modality: volume}; missing: {modality: why it is not there} where more is known than
    that it isn't; reference: the DICOM series in whose space the grid lies, if it came from DICOM;
    note: what has to be said of the patient wherever it is shown.
    """

    volumes: dict[str, Volume]
    missing: dict[str, str] = field(default_factory=dict)
    reference: Series | None = None
    note: str = ""


def open_patient(path: str, format_: StackFormat, trust_axes: bool = False) -> Patient:
    """Read those of a prior's modalities that a patient has.

    path: folder of <modality>.nii.gz; COHORT/PATIENT; or a folder of one patient's DICOM, which is
    registered and resampled as the prior's cohort was. format_: the prior's images; trust_axes: of
    NIfTI, see :func:`load_nifti`.

    Raises UserError where there is no such patient or its files don't fit together.
    """
    patients = Patients.at(path)
    if not patients.is_one:
        raise UserError(
            f"{path}: {len(patients.everybody)} patients lie there; expected one of them"
        )
    if patients.cohort is not None:
        return _of_cohort(patients, patients.cohort, format_)
    folder = Path(path)
    there = [m for m in format_.names if modality_path(folder, m)]
    if not there and _holds_dicom(folder):
        return _of_dicom(folder, format_)
    volumes = read_patient(folder, there, format_, trust_axes) if there else {}
    return Patient(volumes)


def _of_cohort(one: Patients, store: CohortStore, format_: StackFormat) -> Patient:
    entry, url = store.entry(one.name), store.url
    if entry is None:
        raise UserError(f"{url}: no patient {one.name} in this cohort; see any2all cohort {url}")
    images = store.images(one.name)
    patient = _as_patient(one.path, images, entry, store.format.names, format_)
    return replace(patient, note=VIRTUAL if store.virtual else "")


def _of_dicom(folder: Path, format_: StackFormat) -> Patient:
    from any2all_data.stacking import Preparation, prepared

    if format_.grid is None:
        raise UserError(
            f"{folder}: DICOM, but this prior does not say the voxel size that it was trained at; "
            "make a cohort with any2all prepare, and give --input COHORT/PATIENT"
        )
    grid, modalities, own = format_.grid, format_.names, own_kinds(format_)
    sources = [source for source in find_sources(folder)[0] if source.series]
    people = [source.series.person for source in sources if source.series]
    count = len({source.patient for source in sources})
    if count > 1 and (differ(people) or len({person.id for person in people}) > 1):
        raise UserError(f"{folder}: DICOM of {count} patients; give the folder of one")
    reference = grid.reference if grid.reference in modalities else modalities[0]
    chosen = choose(sources, read_rules(own=own.values()), modalities, reference, own)
    if not chosen:
        raise UserError(
            f"{folder}: {len(sources)} DICOM series, none of {', '.join(modalities)}; see "
            f"any2all prepare --dry-run {folder}"
        )
    asked = replace(format_, grid=replace(grid, reference=reference))
    images, entry = prepared(chosen, asked, Preparation(bias_correct=grid.bias_corrected))
    patient = _as_patient(str(folder), images, entry, modalities, format_)
    return replace(patient, reference=_used(chosen, entry.reference, format_))


def _used(
    chosen: Mapping[str, Sequence[Source]], modality: str, format_: StackFormat
) -> Series | None:
    """The series of the first that can be read, which is the one that was."""
    *others, last = chosen[modality]
    for source in others:
        try:
            source.read(kind_for(format_[modality]))
        except UserError:
            continue
        return source.series
    return last.series


def _as_patient(
    path: str,
    images: Array,
    entry: Entry,
    channels: Sequence[str],
    format_: StackFormat,
) -> Patient:
    """The modalities of a cohort's patient as volumes; channels: those of images (Z, M, H, W)."""
    volumes = {}
    for name in format_.names:
        if name in entry.present:
            slices = np.ascontiguousarray(images[:, channels.index(name)])
            own = Range(0.0, entry.scale.get(name) or mr_scale(slices))
            values = format_[name].range or own
            said = f"{name}: "
            notes = [note.removeprefix(said) for note in entry.notes if note.startswith(said)]
            volumes[name] = Volume(
                Path(path) / name, slices, np.array(entry.affine), AXES, values, tuple(notes)
            )
    doubtful = {
        name: f"its registration is doubtful, quality {quality:.2f}"
        for name, quality in entry.aside.items()
    }
    return Patient(volumes, entry.left_out | doubtful)


def _holds_dicom(folder: Path) -> bool:
    try:
        return any(is_dicom(path) for path in tree(folder) if not is_nifti(path))
    except UserError:  # a file that is named like DICOM
        return True
