"""DICOM trees as series, and a series as a volume with geometry and physical values."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import nibabel as nib
import numpy as np
from any2all_operators import UserError

from any2all_data.dicom_geometry import check_images, stacked
from any2all_data.dicom_headers import (
    GE_RAW_DATA,
    MOMENTS,
    SPLIT_BY,
    TAGS,
    flat,
    is_dicom,
    quiet,
    read_header,
    text,
)
from any2all_data.dicom_layout import layout
from any2all_data.dicom_pixels import padding, stored
from any2all_data.grid import VoxelGrid
from any2all_data.scan import background
from any2all_data.suv import suv_factor

if TYPE_CHECKING:
    from pydicom import Dataset

Unit = Literal["arbitrary", "HU", "SUV g/ml"]


@dataclass(frozen=True)
class Series:
    """Images of one volume, by their headers.

    ``files``: of one SeriesInstanceUID, and the volume's own where a series holds several;
    ``selected``: its frames as (file, frame), indices from 0, all of them if empty. ``patient``
    (PatientID; without one PatientName, then StudyInstanceUID) and ``study`` identify a person:
    only to group by and to hash. ``tags``: what the header says of the kind of image, by pydicom
    keyword, of the first frame; free text of others, too, so not to be shown unasked. ``grid``:
    None where the headers don't say it; ``warnings``: what is missing, in sentences.
    """

    files: tuple[Path, ...] = field(repr=False)
    patient: str = field(repr=False)
    study: str = field(repr=False)
    tags: Mapping[str, str] = field(repr=False)
    frames: int
    selected: tuple[tuple[int, int], ...] = field(default=(), repr=False)
    grid: VoxelGrid | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Frame:
    path: Path
    index: int
    image: str  # SOPInstanceUID
    place: tuple[float, ...] | None  # position and orientation
    values: Mapping[str, str]


def find_series(
    folder: Path, advance: Callable[[], None] = lambda: None
) -> tuple[list[Series], list[tuple[Path, str]]]:
    """The series of every DICOM file in a tree, and the damaged files with what is wrong.

    Files are known by content, not by name; headers alone are read. Other files and DICOMDIR are
    skipped, copies of an image (same SOPInstanceUID) taken once, links out of ``folder`` not
    followed. A series whose images lie in the same places is split by SPLIT_BY into volumes.
    ``advance`` is called once a file. Both lists are sorted by path.

    Raises UserError when ``folder`` is no folder, or pydicom isn't installed.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; expected a folder of DICOM files")
    if not importlib.util.find_spec("pydicom"):
        raise _not_installed()
    found: dict[tuple[str, str, str], list[_Frame]] = {}
    damaged: list[tuple[Path, str]] = []
    with quiet():
        for path in tree(folder):
            advance()
            try:
                for key, frame in list(_frames(path)):  # all of a file or none
                    found.setdefault(key, []).append(frame)
            except UserError as error:
                damaged.append((path, str(error)))
            except Exception as error:  # whatever a damaged header sets off in pydicom
                damaged.append((path, f"damaged header ({type(error).__name__})"))
    series = [
        _series(patient, study, volume)
        for (patient, study, _), frames in found.items()
        for volume in _volumes(_once(frames))
    ]
    return sorted(series, key=lambda s: (s.files, s.selected)), damaged


def unit_of(series: Series) -> Unit:
    """Of the values that :func:`read_series` gives: HU for CT, SUV by body weight for PET."""
    units: dict[str, Unit] = {"CT": "HU", "PT": "SUV g/ml"}
    return units.get(series.tags.get("Modality", ""), "arbitrary")


def read_series(series: Series) -> nib.Nifti1Image:
    """The volume, float32 (columns, rows, slices), with its affine to mm, RAS+.

    Values are physical (see :func:`unit_of`): the slope and intercept of each frame applied, PET
    scaled by :func:`suv_factor`, padding as background (air in CT). Geometry is highdicom's: slices
    sorted along their normal, at even distances, DICOM's LPS turned to RAS.

    Raises UserError naming the folder and SeriesNumber, and the reason: gantry tilt, missing
    slices, uneven increments, mixed orientations, not a volume (and why), a missing tag, damaged.
    """
    try:
        with quiet():
            return _read(series)
    except ImportError:
        raise _not_installed() from None
    except UserError as error:
        raise UserError(f"{_where(series)}: {error}") from None
    except Exception as error:  # whatever a damaged header sets off
        name = type(error).__name__
        raise UserError(f"{_where(series)}: damaged header ({name}); export it again") from None


def _read(series: Series) -> nib.Nifti1Image:
    from highdicom import Volume
    from pydicom.pixels.processing import apply_modality_lut

    whole = [list(flat(read_header(path))) for path in series.files]
    every = [(k, i) for k, file in enumerate(whole) for i in range(len(file))]
    selected = sorted(series.selected or every)
    headers = [whole[k][i] for k, i in selected]
    check_images(headers)
    if unit_of(series) == "SUV g/ml":
        _check_static(headers)
    spacing, order = stacked(headers)
    unit = unit_of(series)
    if unit == "HU":
        _check_hounsfield(headers)
    factor = suv_factor(headers) if unit == "SUV g/ml" else 1.0
    shape = (int(headers[0].Rows), int(headers[0].Columns))
    voxels = np.empty((len(headers), *shape), np.float32)
    padded = np.empty(voxels.shape, bool)
    frames = zip(order, headers, stored(series.files, selected, shape), strict=True)
    for slice_, header, values in frames:
        voxels[slice_] = factor * apply_modality_lut(values, header)
        padded[slice_] = padding(values, header)
    voxels[padded] = background(voxels[~padded], "CT" if unit == "HU" else "")
    if not np.isfinite(voxels).all():
        raise UserError("its rescaled values are not finite; export it again")
    first = headers[order.index(0)]
    volume = Volume.from_attributes(
        array=voxels,
        image_position=first.ImagePositionPatient,
        image_orientation=first.ImageOrientationPatient,
        pixel_spacing=first.PixelSpacing,
        spacing_between_slices=spacing,
        coordinate_system="PATIENT",
    )
    # highdicom counts slices against the cross product of row and column
    volume = volume.flip_spatial(0).permute_spatial_axes([2, 1, 0])
    image = nib.Nifti1Image(volume.array, volume.get_affine("RAS"))
    image.header.set_xyzt_units("mm")
    return image


def _check_hounsfield(headers: Sequence[Dataset]) -> None:
    for header in headers:
        for keyword in ("RescaleSlope", "RescaleIntercept"):
            if header.get(keyword) is None and "ModalityLUTSequence" not in header:
                raise UserError(f"no {keyword}, so no HU; add it to the header")
        if str(header.get("RescaleType") or "HU") != "HU":
            raise UserError("RescaleType (0028,1054) is not HU; leave the series out")


def _check_static(headers: Sequence[Dataset]) -> None:
    places = len({tuple(map(float, header.ImagePositionPatient)) for header in headers})
    if places < len(headers):
        raise UserError(
            f"dynamic or gated PET: {len(headers)} images of {places} places; expected one image "
            "of each. Average its late frames to one volume, or leave it out"
        )


def tree(folder: Path) -> Iterator[Path]:
    """Regular files of a tree, sorted; links only where they stay inside."""
    root = folder.resolve()
    for parent, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            path = Path(parent, name)
            if path.is_file() and (not path.is_symlink() or path.resolve().is_relative_to(root)):
                yield path


def _frames(path: Path) -> Iterator[tuple[tuple[str, str, str], _Frame]]:
    """The frames of a file, with (patient, study, series); none if it is not DICOM."""
    if not is_dicom(path):
        return
    header = read_header(path)
    if header.get("SOPClassUID") is None and "DirectoryRecordSequence" in header:
        return
    if str(header.file_meta.get("MediaStorageSOPClassUID", "")) == "1.2.840.10008.1.3.10":
        return
    study, series, image = (
        text(header.get(f"{what}InstanceUID")) for what in ("Study", "Series", "SOP")
    )
    if not series or not image:
        raise UserError("damaged: its header ends before SeriesInstanceUID; export it again")
    patient = text(header.get("PatientID")) or text(header.get("PatientName")) or study
    for index, frame in enumerate(list(flat(header))):
        place = None
        if frame.get("ImagePositionPatient") and frame.get("ImageOrientationPatient"):
            numbers = (*frame.ImagePositionPatient, *frame.ImageOrientationPatient)
            place = tuple(round(float(x), 3) for x in numbers)
        yield (patient, study, series), _Frame(path, index, image, place, _values(frame))


def _values(frame: Dataset) -> dict[str, str]:
    values = {k: text(frame.get(k)) for k in dict.fromkeys((*TAGS, *SPLIT_BY))}
    if GE_RAW_DATA in frame:
        values["RawDataType"] = text(frame[GE_RAW_DATA].value)
    for keyword, sequence, name in (
        ("Radiopharmaceutical", "RadiopharmaceuticalInformationSequence", "Radiopharmaceutical"),
        ("ContrastBolusAgent", "ContrastBolusAgentSequence", "CodeMeaning"),
    ):
        for item in list(frame.get(sequence) or [])[:1]:
            values[keyword] = values.get(keyword) or text(item.get(name))
    return {keyword: value for keyword, value in values.items() if value}


def _once(frames: list[_Frame]) -> list[_Frame]:
    """Sorted, and of copies of an image the first."""
    first: dict[tuple[str, int], _Frame] = {}
    for frame in sorted(frames, key=lambda f: (f.path, f.index)):
        first.setdefault((frame.image, frame.index), frame)
    return list(first.values())


def _volumes(frames: list[_Frame]) -> list[list[_Frame]]:
    """Frames split until none lie in one place, so far as a value of SPLIT_BY tells them apart.

    A dynamic PET stays whole: none of its frames stands for it.
    """
    places = {frame.place for frame in frames}
    if None in places or len(places) == len(frames):
        return [frames]
    for keyword in SPLIT_BY:
        parts: dict[str, list[_Frame]] = {}
        for frame in frames:
            parts.setdefault(frame.values.get(keyword, ""), []).append(frame)
        if keyword in MOMENTS and frames[0].values.get("Modality") == "PT":
            continue
        if len(parts) > 1 and all(len({f.place for f in part}) > 1 for part in parts.values()):
            return [volume for part in parts.values() for volume in _volumes(part)]
    return [frames]


def _series(patient: str, study: str, frames: list[_Frame]) -> Series:
    files = tuple(dict.fromkeys(frame.path for frame in frames))
    number = {path: k for k, path in enumerate(files)}
    selected = tuple((number[frame.path], frame.index) for frame in frames)
    tags = {k: v for k, v in frames[0].values.items()}
    grid, warnings = layout([frame.place for frame in frames], [frame.values for frame in frames])
    return Series(files, patient, study, tags, len(frames), selected, grid, warnings)


def _where(series: Series) -> str:
    folder = os.path.commonpath([path.parent for path in series.files])
    number = series.tags.get("SeriesNumber", "")
    return f"{folder}: series {number if number.isdecimal() else 'without a number'}"


def _not_installed() -> UserError:
    return UserError("DICOM needs pydicom and highdicom; run pip install 'any2all-data[dicom]'")
