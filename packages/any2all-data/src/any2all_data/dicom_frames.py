"""Combine the frames of DICOM files into volumes by their headers."""

from __future__ import annotations

import filecmp
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from any2all_operators import UserError

from any2all_data.dicom_headers import (
    GE_RAW_DATA,
    MOMENTS,
    SPLIT_BY,
    TAGS,
    frame_headers,
    is_dicom,
    read_header,
    text,
)

if TYPE_CHECKING:
    from pydicom import Dataset

LEAST_STACK = 5
"""Smallest number of frames of a volume, if the other frames of its series are a localizer."""
EVEN = 0.01
"""Largest difference between increments within a volume, relative to their mean."""
MEDIA_DIRECTORY = "1.2.840.10008.1.3.10"

Geometry = tuple[object, ...]


@dataclass(frozen=True)
class PatientIdentity:
    """The identity of the person in a header."""

    id: str = field(default="", repr=False)
    name: str = field(default="", repr=False)
    birth_date: str = field(default="", repr=False)
    sex: str = field(default="", repr=False)


@dataclass(frozen=True)
class Frame:
    """One image.

    - ``place``: position (3,) in mm.
    - ``directions``: direction cosines of a row and a column (6,).
    - ``geometry``: directions, size and spacing, rounded for comparison.
    - ``values``: header values by keyword.
    """

    path: Path
    index: int
    image: str  # SOPInstanceUID
    study: str
    series: str
    person: PatientIdentity
    place: tuple[float, ...] | None
    directions: tuple[float, ...]
    geometry: Geometry
    values: Mapping[str, str]

    @property
    def patient(self) -> str:
        """The PatientID, else the PatientName, else the StudyInstanceUID."""
        return self.person.id or self.person.name or self.study

    @property
    def lies(self) -> tuple[float, ...] | None:
        """Position and directions as nine numbers; None if the position is unknown."""
        return None if self.place is None else (*self.place, *self.directions)

    @property
    def localizer(self) -> bool:
        return "LOCALIZER" in self.values.get("ImageType", "")


@dataclass(frozen=True)
class Volume:
    """The frames of one volume, sorted by file. ``warnings`` say what was dropped or merged."""

    frames: tuple[Frame, ...]
    warnings: tuple[str, ...] = ()


def frames_of(path: Path) -> Iterator[Frame]:
    """Yield the frames of a file; none if it is a DICOMDIR or not DICOM."""
    if not is_dicom(path):
        return
    header = read_header(path)
    if header.get("SOPClassUID") is None and "DirectoryRecordSequence" in header:
        return
    if str(header.file_meta.get("MediaStorageSOPClassUID", "")) == MEDIA_DIRECTORY:
        return
    study, series, image = (
        text(header.get(f"{what}InstanceUID")) for what in ("Study", "Series", "SOP")
    )
    if not series or not image:
        raise UserError("damaged: its header ends before SeriesInstanceUID; export it again")
    keywords = ("PatientID", "PatientName", "PatientBirthDate", "PatientSex")
    person = PatientIdentity(*(text(header.get(keyword)) for keyword in keywords))
    for index, frame in enumerate(list(frame_headers(header))):
        place: tuple[float, ...] | None = None
        directions: tuple[float, ...] = ()
        geometry: Geometry = ()
        if frame.get("ImagePositionPatient") and frame.get("ImageOrientationPatient"):
            place = tuple(round(float(x), 3) for x in frame.ImagePositionPatient)
            directions = tuple(map(float, frame.ImageOrientationPatient))
            geometry = _geometry(frame)
        yield Frame(
            path,
            index,
            image,
            study,
            series,
            person,
            place,
            directions,
            geometry,
            _values(frame),
        )


def volumes(frames: Iterable[Frame]) -> Iterator[Volume]:
    """Combine frames into volumes by their series.

    Series are merged by SeriesNumber if each slice has a series of its own. Localizer frames are
    dropped. Frames at the same positions are split by SPLIT_BY.
    """
    series: dict[tuple[str, str, str], list[Frame]] = defaultdict(list)
    for frame in sorted(frames, key=lambda f: (f.path, f.index)):
        series[frame.patient, frame.study, frame.series].append(frame)
    for volume in _merged(
        [_without_localizer(_without_copies(found)) for found in series.values()]
    ):
        for part in _split(volume.frames):
            yield replace(volume, frames=part)


def _geometry(frame: Dataset) -> Geometry:
    directions = tuple(round(float(x), 2) + 0.0 for x in frame.ImageOrientationPatient)
    spacing = tuple(round(float(x), 3) for x in frame.get("PixelSpacing") or ())
    return directions, frame.get("Rows"), frame.get("Columns"), spacing


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


def _without_copies(frames: Sequence[Frame]) -> list[Frame]:
    """Drop copies of an image: files with the same SOPInstanceUID and the same bytes."""
    first: dict[tuple[str, int], Frame] = {}
    kept = []
    for frame in frames:
        other = first.setdefault((frame.image, frame.index), frame)
        if other is frame or not filecmp.cmp(other.path, frame.path, shallow=False):
            kept.append(frame)
    return kept


def _without_localizer(frames: Sequence[Frame]) -> Volume:
    """Drop the localizer frames of a series.

    These are frames with ImageType LOCALIZER, and frames of an unusual orientation, size or
    spacing. The usual geometry needs at least LEAST_STACK frames, and twice as many as all others.
    """
    stack = [frame for frame in frames if not frame.localizer] or list(frames)
    geometry, count = Counter(frame.geometry for frame in stack).most_common(1)[0]
    if geometry and count >= LEAST_STACK and count >= 2 * (len(stack) - count):
        stack = [frame for frame in stack if frame.geometry == geometry]
    if not (dropped := len(frames) - len(stack)):
        return Volume(tuple(frames))
    note = f"{dropped} of its {len(frames)} frames are dropped: localizer or other geometry"
    return Volume(tuple(stack), (note,))


def _merged(series: Sequence[Volume]) -> list[Volume]:
    """Merge series if the scanner gave each slice or part of a volume its own UID.

    Such series share patient, study, modality, number, description and geometry. Each is a single
    slice, or together they form an evenly spaced stack. Other series are returned as they are.
    """
    alike: dict[tuple[object, ...], list[Volume]] = defaultdict(list)
    for volume in series:
        first = volume.frames[0]
        same = len({frame.geometry for frame in volume.frames}) == 1 and first.place
        names = ("Modality", "SeriesNumber", "SeriesDescription")
        values = tuple(first.values.get(name, "") for name in names)
        own: object = (first.geometry, first.localizer) if same else id(volume)
        alike[(first.patient, first.study, *values, own)].append(volume)
    found = []
    for parts in alike.values():
        frames = tuple(frame for part in parts for frame in part.frames)
        slices = all(len({frame.place for frame in part.frames}) == 1 for part in parts)
        if len(parts) > 1 and (slices or _even(parts)):
            warnings = dict.fromkeys(said for part in parts for said in part.warnings)
            said = f"{len(parts)} series with one number are merged into one volume"
            frames = tuple(sorted(frames, key=lambda f: (f.path, f.index)))
            found.append(Volume(frames, (*warnings, said)))
        else:
            found += parts
    return found


def _even(parts: Sequence[Volume]) -> bool:
    """Whether the slices of all parts together are evenly spaced, with no two at one place."""
    places = [frame.place for part in parts for frame in part.frames]
    if len(set(places)) < len(places) or len(places) < LEAST_STACK:
        return False
    directions = np.array(parts[0].frames[0].geometry[0])
    along = np.sort(np.array(places) @ np.cross(directions[:3], directions[3:]))
    gaps = np.diff(along)
    return bool(np.ptp(gaps) <= EVEN * gaps.mean()) and math.isfinite(gaps.mean())


def _split(frames: Sequence[Frame]) -> list[tuple[Frame, ...]]:
    """Split frames at the same positions by the first value of SPLIT_BY that separates them.

    A dynamic PET stays whole, because no single frame represents it.
    """
    places = {(frame.place, frame.geometry) for frame in frames}
    if any(frame.place is None for frame in frames) or len(places) == len(frames):
        return [tuple(frames)]
    dynamic = frames[0].values.get("Modality") == "PT"
    for keyword in SPLIT_BY:
        if dynamic and keyword in MOMENTS:
            continue
        parts: dict[str, list[Frame]] = defaultdict(list)
        for frame in frames:
            parts[frame.values.get(keyword, "")].append(frame)
        if len(parts) > 1 and all(len({f.place for f in part}) > 1 for part in parts.values()):
            return [volume for part in parts.values() for volume in _split(part)]
    return [tuple(frames)]
