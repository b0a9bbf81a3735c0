"""Find the series of a DICOM tree, and read a series as a volume in physical units."""

from __future__ import annotations

import importlib.util
import os
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import nibabel as nib
import numpy as np
from any2all_operators import UserError

from any2all_data.dicom_frames import Frame, PatientIdentity, Volume, frames_of, volumes
from any2all_data.dicom_geometry import check_images, stacked
from any2all_data.dicom_headers import MOMENTS, frame_headers, quiet, read_header
from any2all_data.dicom_layout import layout
from any2all_data.dicom_pixels import padding, stored
from any2all_data.files import is_nifti, tree, unread
from any2all_data.gantry import slice_shift, straightened
from any2all_data.grid import VoxelGrid
from any2all_data.normalise import Array
from any2all_data.scan import background
from any2all_data.suv import suv_factor

if TYPE_CHECKING:
    from pydicom import Dataset

Unit = Literal["arbitrary", "HU", "SUV g/ml"]


@dataclass(frozen=True)
class Series:
    """The images of one volume, described by their headers.

    - ``files``: the files of one SeriesInstanceUID, or of one volume if a series holds several.
    - ``selected``: its frames as (file, frame), indices from 0; empty selects all.
    - ``patient`` (PatientID, else PatientName, else StudyInstanceUID), ``study`` and ``person``
      identify somebody. They are used only to group and to hash.
    - ``tags``: the first frame's header values on the kind of image, by pydicom keyword. Free text
      may identify somebody, so it is shown only on request.
    - ``grid``: the voxel grid, None if the headers do not give it.
    - ``warnings``: sentences on dropped frames, merged series and missing slices.
    """

    files: tuple[Path, ...] = field(repr=False)
    patient: str = field(repr=False)
    study: str = field(repr=False)
    tags: Mapping[str, str] = field(repr=False)
    frames: int
    selected: tuple[tuple[int, int], ...] = field(default=(), repr=False)
    grid: VoxelGrid | None = None
    person: PatientIdentity = field(default_factory=PatientIdentity, repr=False)
    warnings: tuple[str, ...] = ()


def find_series(
    folder: Path, advance: Callable[[], None] = lambda: None
) -> tuple[list[Series], list[tuple[Path, str]]]:
    """Find the series of every DICOM file in a tree, and the damaged files with the reasons.

    Files are recognised by content, and only headers are read, also of ``.gz`` files. Other files
    and DICOMDIR are skipped, copies of a file count once, and links out of ``folder`` are not
    followed. :func:`any2all_data.dicom_frames.volumes` divides series into volumes. ``advance`` is
    called once per file. Both lists are sorted by path.

    Raises UserError if ``folder`` is not a folder, or pydicom is not installed.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; expected a folder of DICOM files")
    if not importlib.util.find_spec("pydicom"):
        raise _not_installed()
    found: list[Frame] = []
    damaged: list[tuple[Path, str]] = []
    with quiet():
        for path in tree(folder):
            advance()
            if is_nifti(path) or unread(path):
                continue
            try:
                found += list(frames_of(path))  # a list, so that a damaged file adds no frame
            except UserError as error:
                damaged.append((path, str(error)))
            except Exception as error:  # whatever a damaged header sets off in pydicom
                damaged.append((path, f"damaged header ({type(error).__name__})"))
        series = [_series(volume) for volume in volumes(found)]
    return sorted(series, key=lambda s: (s.files, s.selected)), damaged


def unit_of(series: Series) -> Unit:
    """Return the unit of :func:`read_series`'s values: HU for CT, SUV by body weight for PET."""
    units: dict[str, Unit] = {"CT": "HU", "PT": "SUV g/ml"}
    return units.get(series.tags.get("Modality", ""), "arbitrary")


def read_series(series: Series) -> nib.Nifti1Image:
    """Read the volume, float32 (columns, rows, slices), with its affine to mm, RAS+.

    Values are physical (see :func:`unit_of`). Each frame's slope and intercept are applied, PET is
    scaled by :func:`suv_factor`, and padding becomes background (air in CT). highdicom sorts the
    slices along their normal and checks that they are equidistant. DICOM's LPS becomes RAS. A CT
    with gantry tilt is resampled to a straight grid.

    Raises UserError that names the folder, the SeriesNumber and the reason: gantry tilt of another
    modality than CT, missing slices, uneven increments, mixed orientations, not a volume (and
    why), a missing tag, or damage.
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

    whole = [list(frame_headers(read_header(path))) for path in series.files]
    every = [(k, i) for k, file in enumerate(whole) for i in range(len(file))]
    selected = sorted(series.selected or every)
    check_images([whole[k][i] for k, i in selected])
    selected = _without_copies(series, selected, whole)
    headers = [whole[k][i] for k, i in selected]
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
    voxels[padded] = background(voxels[~padded], unit == "HU")
    if not np.isfinite(voxels).all():
        raise UserError("its rescaled values are not finite; export it again")
    first = headers[order.index(0)]
    position = np.array(first.ImagePositionPatient, float)
    if unit == "HU":
        voxels, position = _straight(voxels, [headers[order.index(k)] for k in range(len(order))])
    volume = Volume.from_attributes(
        array=voxels,
        image_position=position.tolist(),
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


def _without_copies(
    series: Series, selected: list[tuple[int, int]], whole: Sequence[Sequence[Dataset]]
) -> list[tuple[int, int]]:
    """Drop frames that repeat another one: same position, size and pixel values.

    Different frames at one position remain, and :func:`stacked` refuses them.
    """
    places: dict[tuple[object, ...], list[tuple[int, int]]] = defaultdict(list)
    for k, i in selected:
        header = whole[k][i]
        where = (*header.ImagePositionPatient, *header.ImageOrientationPatient)
        rescale = (header.get("RescaleSlope"), header.get("RescaleIntercept"))
        size = (header.Rows, header.Columns)
        times = [str(header.get(k)) for k in MOMENTS] if unit_of(series) == "SUV g/ml" else []
        places[(*(round(float(x), 3) for x in where), *size, *rescale, *times)].append((k, i))
    if len({place[:6] for place in places}) == 1:
        return selected
    dropped = set()
    for alike in places.values():
        if len(alike) > 1:
            header = whole[alike[0][0]][alike[0][1]]
            shape = (int(header.Rows), int(header.Columns))
            first, *others = stored(series.files, alike, shape)
            pairs = zip(alike[1:], others, strict=True)
            dropped |= {frame for frame, values in pairs if np.array_equal(values, first)}
    return [frame for frame in selected if frame not in dropped]


def _straight(voxels: Array, headers: Sequence[Dataset]) -> tuple[Array, Array]:
    """Remove the gantry tilt of a CT (Z, rows, columns).

    Returns the slices and the position of the first pixel in mm. ``headers`` are in the order of
    the slices. A tilt that moves no slice by half a pixel is left as it is.
    """
    positions = np.array([h.ImagePositionPatient for h in headers], float)
    row, column = np.array(headers[0].ImageOrientationPatient, float).reshape(2, 3)
    rows, columns = (float(x) for x in headers[0].PixelSpacing)  # between rows, between columns
    shift = slice_shift(positions, row, column, None) / (columns, rows)
    if np.abs(shift).max() * (len(headers) - 1) < 0.5:
        return voxels, positions[0]
    straight, (left, above) = straightened(voxels, shift)
    return straight, positions[0] - left * columns * row - above * rows * column


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


def _series(volume: Volume) -> Series:
    frames = volume.frames
    files = tuple(dict.fromkeys(frame.path for frame in frames))
    number = {path: k for k, path in enumerate(files)}
    first = frames[0]
    grid, missing = layout([frame.lies for frame in frames], [frame.values for frame in frames])
    return Series(
        files,
        first.patient,
        first.study,
        dict(first.values),
        len(frames),
        tuple((number[frame.path], frame.index) for frame in frames),
        grid,
        first.person,
        (*volume.warnings, *missing),
    )


def _where(series: Series) -> str:
    folder = os.path.commonpath([path.parent for path in series.files])
    number = series.tags.get("SeriesNumber", "")
    return f"{folder}: series {number if number.isdecimal() else 'without a number'}"


def _not_installed() -> UserError:
    return UserError("DICOM needs pydicom and highdicom; run pip install 'any2all-data[dicom]'")
