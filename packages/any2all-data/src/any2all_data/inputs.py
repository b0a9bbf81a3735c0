"""A patient to be completed: a folder of NIfTI, one patient of a cohort, or a folder of DICOM."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from any2all_operators import UserError

from any2all_data.dicom import Series
from any2all_data.dicom_headers import is_dicom
from any2all_data.files import is_nifti, tree
from any2all_data.normalise import Array, Range, fixed_range
from any2all_data.patient import AXES, Volume, modality_path, read_patient
from any2all_data.people import differ
from any2all_data.ranking import choose
from any2all_data.rules import read_rules
from any2all_data.sources import Source, find_sources
from any2all_data.store import CohortSettings, CohortStore, Entry, is_cohort

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


def open_patient(
    path: str,
    modalities: Sequence[str],
    normalisation: Mapping[str, Mapping[str, Any]],
    size: tuple[int, int],
    grid: Mapping[str, Any] | None,
    trust_axes: bool = False,
) -> Patient:
    """Read those of the modalities that a patient has.

    path: folder of <modality>.nii.gz; COHORT/PATIENT; or a folder of one patient's DICOM, which is
    registered and resampled as the prior's cohort was. size: (H, W) of the prior;
    normalisation, grid: of the prior, ``{"spacing": (x, y, z) mm or None, "reference": modality,
    "bias_correct": whether N4 was applied}``; trust_axes: of NIfTI, see :func:`load_nifti`.

    Raises UserError where there is no such patient or its files don't fit together.
    """
    url = path.rstrip("/").rpartition("/")[0]
    if url and is_cohort(url):
        return _of_cohort(path, modalities, normalisation)
    folder = Path(path)
    if not folder.is_dir():
        raise UserError(
            f"--input {path}: no such folder; expected <patient>/<modality>.nii.gz, "
            "COHORT/PATIENT, or a folder of DICOM"
        )
    there = [m for m in modalities if modality_path(folder, m)]
    if not there and _holds_dicom(folder):
        return _of_dicom(folder, modalities, normalisation, size, grid)
    volumes = read_patient(folder, there, normalisation, trust_axes) if there else {}
    return Patient(volumes)


def _of_cohort(
    path: str, modalities: Sequence[str], normalisation: Mapping[str, Mapping[str, Any]]
) -> Patient:
    url, _, name = path.rstrip("/").rpartition("/")
    store = CohortStore.open(url)
    entry = store.entry(name)
    if entry is None:
        raise UserError(f"{url}: no patient {name} in this cohort; see any2all cohort {url}")
    images = store.images(name)
    patient = _as_patient(path, images, entry, store.settings, modalities, normalisation)
    return replace(patient, note=VIRTUAL if store.settings.virtual else "")


def _of_dicom(
    folder: Path,
    modalities: Sequence[str],
    normalisation: Mapping[str, Mapping[str, Any]],
    size: tuple[int, int],
    grid: Mapping[str, Any] | None,
) -> Patient:
    from any2all_data.stacking import Preparation, prepared

    if grid is None:
        raise UserError(
            f"{folder}: DICOM, but this prior does not say the voxel size that it was trained at; "
            "make a cohort with any2all prepare, and give --input COHORT/PATIENT"
        )
    sources = [source for source in find_sources(folder)[0] if source.series]
    people = [source.series.person for source in sources if source.series]
    count = len({source.patient for source in sources})
    if count > 1 and (differ(people) or len({person.id for person in people}) > 1):
        raise UserError(f"{folder}: DICOM of {count} patients; give the folder of one")
    reference = grid["reference"] if grid["reference"] in modalities else modalities[0]
    chosen = choose(sources, read_rules(), modalities, reference)
    if not chosen:
        raise UserError(
            f"{folder}: {len(sources)} DICOM series, none of {', '.join(modalities)}; see "
            f"any2all prepare --dry-run {folder}"
        )
    settings = CohortSettings(tuple(modalities), size, grid["spacing"], reference)
    preparation = Preparation(bias_correct=grid.get("bias_correct", False))
    images, entry = prepared(chosen, settings, preparation)
    patient = _as_patient(str(folder), images, entry, settings, modalities, normalisation)
    return replace(patient, reference=_used(chosen, entry.reference))


def _used(chosen: Mapping[str, Sequence[Source]], modality: str) -> Series | None:
    """The series of the first that can be read, which is the one that was."""
    *others, last = chosen[modality]
    for source in others:
        try:
            source.read(modality)
        except UserError:
            continue
        return source.series
    return last.series


def _as_patient(
    path: str,
    images: Array,
    entry: Entry,
    settings: CohortSettings,
    modalities: Sequence[str],
    normalisation: Mapping[str, Mapping[str, Any]],
) -> Patient:
    """The modalities of a cohort's patient as volumes."""
    volumes = {}
    for name in modalities:
        if name in entry.present:
            values = fixed_range(normalisation.get(name)) or Range(0.0, entry.scale[name])
            slices = np.ascontiguousarray(images[:, settings.modalities.index(name)])
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
