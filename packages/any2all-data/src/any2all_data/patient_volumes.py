"""Open a patient for completion: a NIfTI folder, a patient of a cohort, or a DICOM folder."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import nibabel as nib
import numpy as np
from any2all_core.modality_kind import ModalityKind
from any2all_core.stack_format import Range, StackFormat
from any2all_mri.intensity import mr_scale
from any2all_operators import UserError

from any2all_data.cohort_entry import Entry
from any2all_data.dicom import Series
from any2all_data.dicom_headers import is_dicom
from any2all_data.files import is_nifti, tree
from any2all_data.kinds import kind_for, own_kinds
from any2all_data.normalise import Array
from any2all_data.one_grid import RESAMPLE, prepare_line
from any2all_data.own_grid import OwnGrid, own_grid
from any2all_data.patient import AXES, OtherGrid, Volume, oriented, read_volumes
from any2all_data.patient_files import PatientFiles, find_images
from any2all_data.patients import Patients
from any2all_data.people import contradictory
from any2all_data.ranking import choose
from any2all_data.rules import read_rules
from any2all_data.scan import Scan
from any2all_data.sources import Source, file_source, find_sources
from any2all_data.store import CohortStore

VIRTUAL = "a virtual person, simulated; no such person exists"
NO_GRID = (
    "this prior does not record the voxel size of its training; make a cohort with any2all "
    "prepare, and give --input COHORT/PATIENT"
)
LISTED = 5
"""Largest number of files that a message lists."""


@dataclass(frozen=True)
class PatientVolumes:
    """A patient's images on one grid.

    - ``volumes``: {modality: volume}.
    - ``missing``: {modality: reason} of images that can't be used.
    - ``reference``: the DICOM series that defines the grid, if the input is DICOM.
    - ``note``: a remark to show with the patient.
    - ``own``: the patient's own grid, if the images were resampled.
    """

    volumes: dict[str, Volume]
    missing: dict[str, str] = field(default_factory=dict)
    reference: Series | None = None
    note: str = ""
    own: OwnGrid | None = None


@dataclass(frozen=True)
class _Wanted:
    """The request to :func:`open_patient`: the patient at ``path``, and how it is read."""

    path: str
    format: StackFormat
    trust_axes: bool = False
    resample: bool = False
    slices: Callable[[int], range] | None = None


def open_patient(
    path: str,
    format_: StackFormat,
    trust_axes: bool = False,
    resample: bool = False,
    *,
    slices: Callable[[int], range] | None = None,
) -> PatientVolumes:
    """Read a patient's images of a prior's modalities.

    ``path`` is a folder of NIfTI files (named as :func:`find_images` understands them),
    COHORT/PATIENT, or a folder of one patient's DICOM. DICOM is registered and resampled like the
    prior's cohort. ``format_`` is the prior's image format. For ``trust_axes`` see
    :func:`load_nifti`. ``resample`` registers and resamples all images to the prior's grid, and
    keeps the patient's own grid. With ``resample``, ``slices`` is called with the number of slices
    of the patient's reference image, and returns those that are wanted.

    Raises UserError if there is no such patient, or its files are not on one grid.
    """
    patients = Patients.at(path)
    if not patients.is_one:
        raise UserError(f"{path}: has {len(patients.everybody)} patients; expected the path of one")
    if resample and format_.grid is None:
        raise UserError(f"--resample: {NO_GRID}")
    if patients.cohort is not None:
        wanted = _Wanted(path, format_, resample=resample, slices=slices)
        return _open_cohort(patients, patients.cohort, wanted)
    wanted = _Wanted(path, format_, trust_axes, resample, slices)
    folder = Path(path)
    files = find_images(folder, format_.names, own_kinds(format_))
    if not files.images and _holds_dicom(folder):
        return _open_dicom(folder, replace(wanted, trust_axes=False))
    return _open_nifti(files, wanted)


def how_to_resample(path: str, format_: StackFormat, alone: bool = True) -> str:
    """Say what to do with a patient's images that are not on the grid of the prior.

    ``alone`` says whether the patient is sampled alone, so that ``--resample`` is possible.
    """
    url = path.rstrip("/").rpartition("/")[0]
    in_cohort = Patients.at(path).cohort is not None
    if in_cohort and not alone:
        new = "-".join([url, *map(str, format_.size)])
        line = prepare_line("PATIENTS", format_.size, format_.grid, cohort=new)
        return f"prepare PATIENTS, the folder that the cohort was made from, again: {line}"
    if in_cohort:
        other = shlex.join(["any2all", "train", "--data", url, "--output", f"{url}-prior"])
        other = f"train a prior on its cohort: {other}"
    else:
        line = prepare_line(Path(path).absolute().parent, format_.size, format_.grid)
        other = f"make a cohort of all patients: {line}"
    return f"{RESAMPLE}; or {other}" if alone and format_.grid is not None else other


def _open_nifti(files: PatientFiles, wanted: _Wanted) -> PatientVolumes:
    missing, format_ = {}, wanted.format
    if files.unused:
        unused = ", ".join(one.name for one in files.unused[:LISTED])
        found = ", ".join(files.images) or "no modality"
        said = f"the folder has {found}; files with unknown names: {unused}"
        missing = {m: said for m in format_.names if m not in files.images}
    if not files.images:
        return PatientVolumes({}, missing)
    if wanted.resample:
        chosen = {m: (file_source(one.path, "", ""),) for m, one in files.images.items()}
        patient, _ = _on_grid(chosen, wanted)
    else:
        paths = {m: one.path for m, one in files.images.items()}
        try:
            patient = PatientVolumes(read_volumes(paths, format_, wanted.trust_axes))
        except OtherGrid as error:
            raise UserError(f"{error}; {how_to_resample(wanted.path, format_)}") from None
    volumes = {
        m: replace(volume, notes=(*files.images[m].notes, *volume.notes))
        for m, volume in patient.volumes.items()
    }
    return replace(patient, volumes=volumes, missing=missing | patient.missing)


@dataclass(frozen=True)
class StoredImage(Source):
    """An image of a cohort, which was read when the cohort was made."""

    image: nib.Nifti1Image | None = None

    def read(self, kind: ModalityKind, trust_axes: bool = False) -> Scan:
        """Return the image as the cohort stores it."""
        assert self.image is not None
        return Scan(self.image)


def _open_cohort(one: Patients, store: CohortStore, wanted: _Wanted) -> PatientVolumes:
    entry, url = store.entry(one.name), store.url
    if entry is None:
        raise UserError(f"{url}: no patient {one.name} in this cohort; see any2all cohort {url}")
    note = VIRTUAL if store.virtual else ""
    images, names = store.images(one.name), store.format.names
    if not wanted.resample:
        return replace(_as_patient(wanted, images, entry, names), note=note)
    chosen = {}
    for m in entry.present:
        voxels = images[:, names.index(m)].transpose(2, 1, 0)
        image = nib.Nifti1Image(voxels, np.array(entry.affine))
        chosen[m] = (StoredImage(one.name, "", {}, (Path(one.path),), image=image),)
    grid = replace(wanted.format.known_grid, bias_corrected=False)
    as_it_is = replace(wanted, format=replace(wanted.format, grid=grid))
    patient, _ = _on_grid(chosen, as_it_is)
    return replace(patient, note=note)


def _open_dicom(folder: Path, wanted: _Wanted) -> PatientVolumes:
    format_ = wanted.format
    if format_.grid is None:
        raise UserError(f"{folder}: DICOM, but {NO_GRID}")
    own = own_kinds(format_)
    sources = [source for source in find_sources(folder)[0] if source.series]
    people = [source.series.person for source in sources if source.series]
    count = len({source.patient for source in sources})
    if count > 1 and (contradictory(people) or len({person.id for person in people}) > 1):
        raise UserError(f"{folder}: DICOM of {count} patients; give the folder of one")
    rules = read_rules(own=own.values())
    chosen = choose(sources, rules, format_.names, _reference(format_), own=own)
    if not chosen:
        raise UserError(
            f"{folder}: {len(sources)} DICOM series, none of {', '.join(format_.names)}; see "
            f"any2all prepare --dry-run {folder}"
        )
    patient, entry = _on_grid(chosen, wanted)
    return replace(patient, reference=_series_used(chosen, entry.reference, format_))


def _reference(format_: StackFormat) -> str:
    """Return the modality to which the others are registered, as in the prior's cohort."""
    name = format_.known_grid.reference
    return name if name in format_.names else format_.names[0]


def _on_grid(
    chosen: Mapping[str, Sequence[Source]], wanted: _Wanted
) -> tuple[PatientVolumes, Entry]:
    """Register the images to the reference and resample them to the grid of the prior."""
    from any2all_data.stacking import Preparation, prepared

    format_, trust_axes = wanted.format, wanted.trust_axes
    grid = replace(format_.known_grid, reference=_reference(format_))
    if wanted.resample and wanted.slices is not None:
        first = min(chosen, key=lambda name: name != grid.reference)
        try:
            image = chosen[first][0].read(kind_for(format_[first]), trust_axes).image
        except UserError as error:  # which does not name the file
            raise UserError(f"{wanted.path}: {first}: {error}") from None
        wanted.slices(oriented(image).shape[2])  # raises UserError before the long registration
    preparation = Preparation(bias_correct=grid.bias_corrected, trust_axes=trust_axes)
    images, entry = prepared(chosen, replace(format_, grid=grid), preparation)
    patient = _as_patient(wanted, images, entry, format_.names)
    if wanted.resample:
        volumes = {
            m: replace(v, notes=(*v.notes, *_how_moved(m, entry)))
            for m, v in patient.volumes.items()
        }
        own = own_grid(chosen, entry, format_, trust_axes)
        if wanted.slices is not None:
            own = own.select(wanted.slices(len(own.like.slices)))
        patient = replace(patient, volumes=volumes, own=own)
    return patient, entry


def _how_moved(modality: str, entry: Entry) -> list[str]:
    """Return notes for the user on how an image was resampled."""
    if modality == entry.reference:
        return ["resampled to the prior's grid; results are on the grid of this image"]
    if modality in entry.quality:
        return [f"registered to {entry.reference}, quality {entry.quality[modality]:.2f}"]
    return []


def _series_used(
    chosen: Mapping[str, Sequence[Source]], modality: str, format_: StackFormat
) -> Series | None:
    """Return the series that was used: the first that can be read."""
    *others, last = chosen[modality]
    for source in others:
        try:
            source.read(kind_for(format_[modality]))
        except UserError:
            continue
        return source.series
    return last.series


def _as_patient(
    wanted: _Wanted, images: Array, entry: Entry, channels: Sequence[str]
) -> PatientVolumes:
    """Return a cohort's patient as volumes. ``channels`` are those of images (Z, M, H, W)."""
    volumes, format_ = {}, wanted.format
    for name in format_.names:
        if name in entry.present:
            slices = np.ascontiguousarray(images[:, channels.index(name)])
            own = Range(0.0, entry.scale.get(name) or mr_scale(slices))
            values = format_[name].range or own
            said = f"{name}: "
            notes = [note.removeprefix(said) for note in entry.notes if note.startswith(said)]
            volumes[name] = Volume(
                Path(wanted.path) / name, slices, np.array(entry.affine), AXES, values, tuple(notes)
            )
    doubtful = {
        name: f"its registration is doubtful, quality {quality:.2f}"
        for name, quality in entry.aside.items()
    }
    return PatientVolumes(volumes, entry.left_out | doubtful)


def _holds_dicom(folder: Path) -> bool:
    try:
        return any(is_dicom(path) for path in tree(folder) if not is_nifti(path))
    except UserError:  # a file that is named like DICOM
        return True
