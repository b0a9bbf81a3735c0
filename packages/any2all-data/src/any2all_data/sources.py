"""List the images in a folder of DICOM, BIDS or NIfTI, with their tags."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from any2all_core.modality_kind import ModalityKind
from any2all_operators import UserError

from any2all_data.bids import bids_tags, datatype_of, sidecar_tags, stem_of
from any2all_data.dicom import Series, read_series, unit_of
from any2all_data.file_names import plain_tags
from any2all_data.files import absent
from any2all_data.grid import VoxelGrid, nifti_grid
from any2all_data.mask_names import mask_of
from any2all_data.nifti import load_nifti
from any2all_data.people import Remark
from any2all_data.pet_sidecar import pet_files
from any2all_data.scan import Scan, checked
from any2all_data.sidecar import read_sidecar
from any2all_data.source_tree import scan

KEY_DIGITS, SESSION_DIGITS = 12, 4
LEAST_SALT = 16  # bytes
BLOCK = 2**20


@dataclass(frozen=True)
class Source:
    """One image of a patient, found but not read.

    - ``patient`` and ``session`` (of BIDS, or the DICOM study) are as in the source, so they are
      identifying.
    - ``tags``: header values and names, by which rules and ranking judge the image.
    - ``files``: one NIfTI file, or the files of ``series``.
    - ``grid``: the voxel grid, None if the header does not give it.
    - ``warnings``: what a user has to know if this image is used, in sentences without names.
    """

    patient: str
    session: str
    tags: Mapping[str, str]
    files: tuple[Path, ...]
    series: Series | None = None
    grid: VoxelGrid | None = None
    warnings: tuple[str, ...] = ()

    @property
    def mask(self) -> str:
        """Kind of mask by the file's name; "" for an image."""
        return "" if self.series else mask_of(self.files[0].name)

    @property
    def lost(self) -> str:
        """Reason why a file has no content, and what to do; "" if all files have content."""
        try:
            return next(filter(None, map(absent, self.files)), "")
        except OSError as error:
            return f"its file can't be opened ({error.strerror})"

    @property
    def frames(self) -> int:
        """Number of slices of a series, or of voxels along a NIfTI file's longest axis."""
        return self.series.frames if self.series else max(self.grid.shape[:3]) if self.grid else 1

    @property
    def shown(self) -> str:
        """Description or file name in the source, which may be identifying."""
        if self.series is not None:
            return self.tags.get("text", "")
        parts = stem_of(self.files[0]).split("_")
        return "_".join(part for part in parts if not part.startswith(("sub-", "ses-")))

    def read(self, kind: ModalityKind, trust_axes: bool = False) -> Scan:
        """Read the image, float32 in the physical unit of a kind, with its affine in mm (RAS).

        For ``trust_axes`` see :func:`load_nifti`.

        Raises UserError, also if a series has another unit than the kind. The message does not name
        folder and file, because they may contain the patient's name.
        """
        if reason := self.lost:
            raise UserError(reason)
        if self.series is None:
            return load_nifti(self.files[0], "its file", kind, trust_axes)
        given = unit_of(self.series)
        if kind.physical and given not in ("arbitrary", kind.unit):
            raise UserError(
                f"its DICOM is read in {given}, but {kind.name} is in {kind.unit}; change the unit "
                f"of the kind to {given}, or convert the image to NIfTI in {kind.unit}"
            )
        try:
            return checked(Scan(read_series(self.series)), kind)
        except UserError as error:
            folder = os.path.commonpath([path.parent for path in self.files])
            raise UserError(str(error).replace(f"{folder}: ", "")) from None

    def fingerprint(self, pet: bool = False) -> str:
        """Return the SHA-256 of the contents of the files, in their order.

        That of a NIfTI PET includes its sidecar. ``pet`` says that it is a PET if its tags do not.
        A file that can't be opened is skipped.
        """
        digest = hashlib.sha256()
        for path in self.files:
            with contextlib.suppress(OSError), path.open("rb") as file:
                while block := file.read(BLOCK):
                    digest.update(block)
        if self.series is None and (pet or self.tags.get("Modality") == "PT"):
            digest.update(pet_files(self.files[0]))
        return digest.hexdigest()


def find_sources(
    folder: Path, advance: Callable[[], None] = lambda: None
) -> tuple[list[Source], list[Remark]]:
    """List the images under a folder, and remarks on files and patients.

    The folder may mix DICOM with any file names, BIDS (``sub-*/``) and other NIfTI
    (``<patient>/<name>.nii.gz``). See :mod:`any2all_data.source_tree`.
    """
    found = scan(folder, advance)
    sources = [
        replace(_dicom(one), patient=owner.patient, session=owner.session)
        for one, owner in found.series
    ]
    sources += [file_source(path, owner.patient, owner.session) for path, owner in found.nifti]
    return sources, found.remarks


def patient_key(patient: str, salt: bytes, session: str | None = None) -> str:
    """Return a patient's pseudonym: the HMAC-SHA-256 of the identifier with a secret salt.

    It is reproducible, and can't be reversed without the salt. ``session`` adds four digits, if
    each session is a patient of its own.
    """

    def digits(text: str, count: int) -> str:
        return hmac.new(salt, text.encode(), hashlib.sha256).hexdigest()[:count]

    key = f"p-{digits(patient, KEY_DIGITS)}"
    return key if session is None else f"{key}-{digits(f'{patient}/{session}', SESSION_DIGITS)}"


def _dicom(series: Series) -> Source:
    """Convert a series. Its text is the description, else the protocol name.

    The protocol comes second because it is often named after the whole exam.
    """
    names = ("SeriesDescription", "ProtocolName", "SequenceName")
    text = next((series.tags[name] for name in names if series.tags.get(name)), "")
    tags = {**series.tags, "text": text}
    return Source(
        series.patient,
        series.study,
        tags,
        series.files,
        series,
        grid=series.grid,
        warnings=series.warnings,
    )


def file_source(path: Path, patient: str, session: str) -> Source:
    """Describe a NIfTI file by its name, its JSON and its header. The name overrides the JSON.

    A JSON that can't be read is ignored here. Reading a PET refuses it.
    """
    try:
        sidecar = sidecar_tags(read_sidecar(path))
    except UserError:
        sidecar = {}
    tags = bids_tags(path)
    if tags is None:
        tags = plain_tags(stem_of(path), patient, sidecar)
        if folder := datatype_of(path):
            tags["datatype"] = folder
    return Source(patient, session, sidecar | tags, (path,), grid=nifti_grid(path))
