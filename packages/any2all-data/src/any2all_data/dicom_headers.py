"""What is read of DICOM headers: which tags, and an enhanced file as each of its frames sees it."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator, MutableSequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from any2all_operators import UserError

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
"""What tells volumes of one series apart, where images lie in the same place."""
GE_CREATOR, GE_RAW_DATA = 0x00430010, 0x0043102F
"""GE's RawDataType: 0 magnitude, 1 phase, 2 real, 3 imaginary; GE's ImageType doesn't say it."""
MOMENTS = _words("TemporalPositionIdentifier TriggerTime FrameReferenceTime AcquisitionNumber")
"""Those of SPLIT_BY that tell the frames of a dynamic PET apart, which stay together."""
GROUPS = _words(
    "PlanePosition PlaneOrientation PixelMeasures PixelValueTransformation FrameContent "
    "MRImageFrameType CTImageFrameType PETFrameType MREcho MRTimingAndRelatedParameters MRModifier "
    "MRDiffusion DiffusionGradientDirection TemporalPosition CTAcquisitionDetails"
)
"""Functional groups of an enhanced file that are laid over its top level."""
RENAMED = {
    "EffectiveEchoTime": "EchoTime",
    "FrameType": "ImageType",
    "PulseSequenceName": "SequenceName",
    "TemporalPositionIndex": "TemporalPositionIdentifier",
}
"""What an enhanced file calls by another name."""
HEADER = (
    *TAGS,
    *SPLIT_BY,
    *RENAMED,
    *(f"{group}Sequence" for group in GROUPS),
    *_words(
        "SpecificCharacterSet SOPClassUID SOPInstanceUID StudyInstanceUID SeriesInstanceUID "
        "FrameOfReferenceUID PatientID PatientName Rows Columns NumberOfFrames SamplesPerPixel "
        "PhotometricInterpretation BitsAllocated ImagePositionPatient ImageOrientationPatient "
        "PixelSpacing GantryDetectorTilt InstanceNumber RescaleSlope RescaleIntercept RescaleType "
        "ModalityLUTSequence PixelRepresentation PixelPaddingValue "
        "PixelPaddingRangeLimit SharedFunctionalGroupsSequence "
        "PerFrameFunctionalGroupsSequence PatientWeight DecayCorrection SUVType StudyDate "
        "SeriesDate SeriesTime AcquisitionDate AcquisitionTime AcquisitionDateTime "
        "RadiopharmaceuticalInformationSequence ContrastBolusAgentSequence DirectoryRecordSequence"
    ),
)
"""What is read of a header."""


def is_dicom(path: Path) -> bool:
    """By the marker after the preamble, or, without a preamble, the first element's tag."""
    with path.open("rb") as file:
        start = file.read(132)
    if start[128:] == b"DICM" or start[:4] in (b"\x08\0\x05\0", b"\x08\0\x08\0", b"\x02\0\0\0"):
        return True
    if path.suffix.lower() in (".dcm", ".ima", ".dicom") and not path.name.startswith("._"):
        raise UserError("named like DICOM, but its beginning is not; export it again")
    return False


def read_header(path: Path) -> Dataset:
    from pydicom import dcmread
    from pydicom.datadict import tag_for_keyword

    tags = [tag for keyword in HEADER if (tag := tag_for_keyword(keyword)) is not None]
    tags += [PHILIPS_SUV, PHILIPS_ACTIVITY, PHILIPS_CREATOR, GE_CREATOR, GE_RAW_DATA]
    return dcmread(path, stop_before_pixels=True, force=True, specific_tags=tags)


def flat(header: Dataset) -> Iterator[Dataset]:
    """The header as each frame sees it: shared and own functional groups over the top level."""
    from pydicom import Dataset

    groups = header.get("PerFrameFunctionalGroupsSequence")
    if not groups:
        yield header
        return
    if len(groups) != int(header.get("NumberOfFrames") or 1):
        raise UserError("damaged: its number of frames is not that of its functional groups")
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
        flat = Dataset()
        flat.update(common)
        for holder in (*shared, own):
            _lay_over(flat, holder)
        for enhanced, classic in RENAMED.items():
            if flat.get(enhanced):
                setattr(flat, classic, flat[enhanced].value)
        yield flat


def _lay_over(flat: Dataset, holder: Dataset) -> None:
    for group in GROUPS:
        for item in list(holder.get(f"{group}Sequence") or [])[:1]:
            flat.update(item)
            _lay_over(flat, item)


def text(value: Any) -> str:
    """As one line, a list joined by DICOM's backslash; unprintable characters left out."""
    if value is None:
        return ""
    text = "\\".join(map(str, value)) if isinstance(value, MutableSequence) else str(value)
    return "".join(c for c in text if c.isprintable()).strip()[:256]


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """No warnings or log lines of the DICOM libraries: they quote header values."""
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
