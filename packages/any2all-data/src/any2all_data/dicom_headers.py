"""Read DICOM headers, including those of each frame in an enhanced file."""

from __future__ import annotations

import contextlib
import gzip
import logging
import struct
import warnings
import zlib
from collections.abc import Iterator, MutableSequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from any2all_operators import UserError

from any2all_data.decode import opened
from any2all_data.files import absent
from any2all_data.suv import PHILIPS_ACTIVITY, PHILIPS_CREATOR, PHILIPS_SUV

if TYPE_CHECKING:
    from pydicom import Dataset


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


TAGS = _words(
    "Modality SeriesDescription ProtocolName SequenceName ScanningSequence SequenceVariant "
    "ScanOptions EchoTime RepetitionTime InversionTime FlipAngle ContrastBolusAgent ImageType "
    "MRAcquisitionType Manufacturer ManufacturerModelName MagneticFieldStrength SeriesNumber "
    "BodyPartExamined ConvolutionKernel SliceThickness DiffusionBValue TemporalPositionIdentifier "
    "Units CorrectedImage Rows Columns PixelSpacing InstanceNumber EchoNumbers "
    "ComplexImageComponent AcquisitionContrast"
)
"""Keywords of :attr:`Series.tags`."""
SPLIT_BY = _words(
    "ImageType EchoTime DiffusionBValue DiffusionGradientOrientation TemporalPositionIdentifier "
    "InversionTime FlipAngle SequenceName TriggerTime FrameReferenceTime AcquisitionNumber "
    "ComplexImageComponent RawDataType"
)
"""Keywords that distinguish volumes of one series whose images lie at the same positions."""
GE_CREATOR, GE_RAW_DATA = 0x00430010, 0x0043102F
"""GE's RawDataType: 0 magnitude, 1 phase, 2 real, 3 imaginary. GE's ImageType lacks this."""
MOMENTS = _words("TemporalPositionIdentifier TriggerTime FrameReferenceTime AcquisitionNumber")
"""Keywords of SPLIT_BY that do not split a PET, because they number its dynamic frames."""
GROUPS = _words(
    "PlanePosition PlaneOrientation PixelMeasures PixelValueTransformation FrameContent "
    "MRImageFrameType CTImageFrameType PETFrameType MREcho MRTimingAndRelatedParameters MRModifier "
    "MRDiffusion DiffusionGradientDirection TemporalPosition CTAcquisitionDetails"
)
"""Functional groups of an enhanced file whose values replace those of its top level."""
RENAMED = {
    "EffectiveEchoTime": "EchoTime",
    "FrameType": "ImageType",
    "PulseSequenceName": "SequenceName",
    "TemporalPositionIndex": "TemporalPositionIdentifier",
}
"""Keywords of enhanced files, and the classic keywords that they replace."""
HEADER = (
    *TAGS,
    *SPLIT_BY,
    *RENAMED,
    *(f"{group}Sequence" for group in GROUPS),
    *_words(
        "SpecificCharacterSet SOPClassUID SOPInstanceUID StudyInstanceUID SeriesInstanceUID "
        "FrameOfReferenceUID PatientID PatientName PatientBirthDate PatientSex "
        "Rows Columns NumberOfFrames SamplesPerPixel "
        "PhotometricInterpretation BitsAllocated ImagePositionPatient ImageOrientationPatient "
        "PixelSpacing GantryDetectorTilt InstanceNumber RescaleSlope RescaleIntercept RescaleType "
        "ModalityLUTSequence PixelRepresentation PixelPaddingValue "
        "PixelPaddingRangeLimit SharedFunctionalGroupsSequence "
        "PerFrameFunctionalGroupsSequence PatientWeight DecayCorrection SUVType StudyDate "
        "SeriesDate SeriesTime AcquisitionDate AcquisitionTime AcquisitionDateTime "
        "RadiopharmaceuticalInformationSequence ContrastBolusAgentSequence DirectoryRecordSequence"
    ),
)
"""Keywords that are read from a header."""
START = 512
"""Number of bytes at a file's start that show whether it is DICOM."""
LONG = _words("OB OW OF OD OL OV SQ UC UN UR UT SV UV")
"""Value representations whose length field has four bytes."""


def is_dicom(path: Path) -> bool:
    """Whether a file is DICOM, by the marker after the preamble or else by the first elements.

    Raises UserError if a file is named like DICOM but is not.
    """
    named = named_like_dicom(path)
    if named and (reason := absent(path)):
        raise UserError(reason)
    try:
        with opened(path) as file:
            start = file.read(START)
    except (EOFError, zlib.error, gzip.BadGzipFile):
        start = b""
    if start[128:132] == b"DICM" or _begins_with_elements(start):
        return True
    if named:
        raise UserError("named like DICOM, but its content is not; export it again")
    return False


def named_like_dicom(path: Path) -> bool:
    return path.name.lower().removesuffix(".gz").endswith((".dcm", ".ima", ".dicom"))


def _begins_with_elements(start: bytes) -> bool:
    """Whether the file starts with two ascending elements, the first of group 0002 or 0008."""
    for order in "<>":
        first = _element(start, order)
        if first and first[0] in (2, 8):
            second = _element(start[first[2] :], order)
            if second and first[:2] < second[:2]:
                return True
    return False


def _element(start: bytes, order: str) -> tuple[int, int, int] | None:
    """Return group, number and size in bytes of the element at the start; None if there is none."""
    if len(start) < 8:
        return None
    group, number = struct.unpack(f"{order}HH", start[:4])
    kind = start[4:6].decode("latin-1")
    if kind in LONG and len(start) >= 12:
        size: int = 12 + struct.unpack(f"{order}I", start[8:12])[0]
    elif kind.isalpha() and kind.isupper():
        size = 8 + struct.unpack(f"{order}H", start[6:8])[0]
    else:
        size = 8 + struct.unpack(f"{order}I", start[4:8])[0]
    return group, number, size


def read_header(path: Path) -> Dataset:
    from pydicom import dcmread
    from pydicom.datadict import tag_for_keyword

    tags = [tag for keyword in HEADER if (tag := tag_for_keyword(keyword)) is not None]
    tags += [PHILIPS_SUV, PHILIPS_ACTIVITY, PHILIPS_CREATOR, GE_CREATOR, GE_RAW_DATA]
    with opened(path) as file:
        return dcmread(file, stop_before_pixels=True, force=True, specific_tags=tags)


def frame_headers(header: Dataset) -> Iterator[Dataset]:
    """Yield the header of each frame, with functional groups merged into the top level."""
    from pydicom import Dataset

    groups = header.get("PerFrameFunctionalGroupsSequence")
    if not groups:
        yield header
        return
    if len(groups) != int(header.get("NumberOfFrames") or 1):
        raise UserError("damaged: its numbers of frames and functional groups differ")
    shared = list(header.get("SharedFunctionalGroupsSequence") or [])[:1]
    outside = (
        "SharedFunctionalGroupsSequence",
        "PerFrameFunctionalGroupsSequence",
        "NumberOfFrames",
    )
    common = Dataset()
    common.update(header)
    for keyword in outside:
        if keyword in common:
            del common[keyword]
    for own in groups:
        frame = Dataset()
        frame.update(common)
        for holder in (*shared, own):
            _lay_over(frame, holder)
        for enhanced, classic in RENAMED.items():
            if frame.get(enhanced):
                setattr(frame, classic, frame[enhanced].value)
        yield frame


def _lay_over(frame: Dataset, holder: Dataset) -> None:
    for group in GROUPS:
        for item in list(holder.get(f"{group}Sequence") or [])[:1]:
            frame.update(item)
            _lay_over(frame, item)


def text(value: Any) -> str:
    """Return a value as one printable line, with the items of a list joined by backslashes."""
    if value is None:
        return ""
    text = "\\".join(map(str, value)) if isinstance(value, MutableSequence) else str(value)
    return "".join(c for c in text if c.isprintable()).strip()[:256]


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Suppress warnings and log lines of the DICOM libraries, which quote header values."""
    loggers = [logging.getLogger(name) for name in ("pydicom", "highdicom")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            for logger in loggers:
                logger.setLevel(logging.CRITICAL + 1)
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
