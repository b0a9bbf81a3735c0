"""Write a result as a derived DICOM series in the study and space of its source series."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from any2all_core.modality_kind import ModalityKind
from any2all_core.stack_format import Range
from any2all_operators import UserError

from any2all_data.decode import opened
from any2all_data.dicom import Series
from any2all_data.dicom_headers import frame_headers, quiet, read_header
from any2all_data.normalise import Array
from any2all_data.patient import LPS

if TYPE_CHECKING:
    from pydicom import Dataset

FINEST = 1000
"""Smallest number of steps from 0 to the brightest stored MR value."""
LONGEST = {"SeriesDescription": 64, "DerivationDescription": 1024}
"""Largest number of characters in DICOM's value representations LO and ST."""
SOURCE_IMAGE = ("121322", "DCM", "Source image for image processing operation")

DEFINITIONS: Mapping[str, Mapping[str, Any]] = {
    "MR": {
        "SOPClassUID": "1.2.840.10008.5.1.4.1.1.4",
        "ImageType": ["DERIVED", "SECONDARY", "OTHER"],
        "ScanningSequence": "RM",  # research mode: no sequence was run
        "SequenceVariant": "NONE",
        "ScanOptions": None,
        "MRAcquisitionType": None,
        "EchoTime": None,
        "EchoTrainLength": None,
        "RepetitionTime": None,
    },
    "CT": {
        "SOPClassUID": "1.2.840.10008.5.1.4.1.1.2",
        "ImageType": ["DERIVED", "SECONDARY", "AXIAL"],
        "KVP": None,
        "AcquisitionNumber": None,
        "RescaleType": "HU",
    },
    "PT": {
        "SOPClassUID": "1.2.840.10008.5.1.4.1.1.128",
        "ImageType": ["DERIVED", "PRIMARY"],
        "Units": "GML",
        "SUVType": "BW",
        "CountsSource": "EMISSION",
        "SeriesType": ["STATIC", "IMAGE"],
        "CorrectedImage": None,
        "DecayCorrection": "NONE",
        "CollimatorType": None,
        "FrameReferenceTime": 0,
        "ActualFrameDuration": None,
        "AcquisitionDate": None,
        "AcquisitionTime": None,
        "RadiopharmaceuticalInformationSequence": [],
        "PatientOrientationCodeSequence": [],
        "PatientGantryRelationshipCodeSequence": [],
    },
}
"""Attributes of each kind of image. No acquisition took place, so they say as little about one as
PS3.3 A.3, A.4 and A.21 permit."""


@dataclass(frozen=True)
class Derived:
    """An image to write as DICOM.

    - ``kind``: the kind of the modality.
    - ``slices``: (Z, H, W) in physical units.
    - ``affine``: (4, 4), maps voxel (x, y, z) along (L, P, S) to mm (RAS).
    - ``range``: the physical values of black and white.
    - ``description``: the series description, at most 64 characters.
    - ``method``: how the image was made, at most 1024 characters.
    """

    kind: ModalityKind
    slices: Array
    affine: npt.NDArray[Any]
    range: Range
    description: str
    method: str


def write_derived(folder: Path, image: Derived, reference: Series, number: int) -> None:
    """Write ``folder/0001.dcm`` ... as single-frame MR, CT or PET images, lowest slice first.

    Patient, study and frame of reference are those of ``reference``, so the files contain the
    patient's identity. ``number`` is the SeriesNumber. The image type is DERIVED, and
    DerivationDescription is the method. Each image refers to the nearest image of ``reference`` as
    its source.

    CT is stored in HU and PET as SUV by body weight in g/ml. MR with a unit has a slope and an
    intercept. Other MR is stored as it is, times a power of ten if it would be too coarse.

    Raises UserError if the reference has no frame of reference.
    """
    try:
        import highdicom
    except ImportError:
        raise UserError("DICOM needs highdicom; run pip install 'any2all-data[dicom]'") from None
    for what, text in {
        "SeriesDescription": image.description,
        "DerivationDescription": image.method,
    }.items():
        if len(text) > LONGEST[what]:
            raise ValueError(f"{what} of {len(text)} characters; at most {LONGEST[what]}")
    kind = image.kind.dicom
    with quiet():
        source = _whole_header(reference.files[0])
        if not source.get("FrameOfReferenceUID"):
            raise UserError(
                "the reference series has no FrameOfReferenceUID (0020,0052), so a result can't be "
                "placed by it; leave --dicom out"
            )
        # axes (z, y, x): slices, rows, columns
        affine = (LPS @ image.affine)[:, [2, 1, 0, 3]]
        volume = highdicom.Volume(
            image.slices, affine, "PATIENT", frame_of_reference_uid=source.FrameOfReferenceUID
        )
        stored, encoding = _encoded(image, kind)
        folder.mkdir(parents=True)
        series = highdicom.UID()
        written = datetime.now()
        measures = volume.get_pixel_measures()[0]
        plane = volume.get_plane_orientation()[0]
        sources = _source_images(reference)
        for k, values in enumerate(stored):
            dataset = highdicom.SOPClass(
                study_instance_uid=source.StudyInstanceUID,
                series_instance_uid=series,
                series_number=number,
                sop_instance_uid=highdicom.UID(),
                sop_class_uid=DEFINITIONS[kind]["SOPClassUID"],
                instance_number=k + 1,
                modality=kind,
                manufacturer="Any2all",
                manufacturer_model_name="any2all-data",
                software_versions=version("any2all-data"),
                series_description=image.description,
                content_date=written.date(),
                content_time=written.time(),
                series_date=written.date(),
                series_time=written.time(),
                transfer_syntax_uid="1.2.840.10008.1.2.1",
            )
            dataset.copy_patient_and_study_information(source)
            if source.get("SpecificCharacterSet"):
                dataset.SpecificCharacterSet = source.SpecificCharacterSet
            position = volume.get_plane_position(k)[0]
            for item in (measures, plane, position):
                dataset.update(item)
            _set(dataset, DEFINITIONS[kind])
            _set(dataset, encoding)
            if kind == "PT":
                _set(dataset, {"NumberOfSlices": len(stored), "ImageIndex": k + 1})
            else:  # PET has PatientOrientationCodeSequence instead
                dataset.PatientPosition = source.get("PatientPosition")
            _set(
                dataset,
                {
                    "FrameOfReferenceUID": source.FrameOfReferenceUID,
                    "PositionReferenceIndicator": source.get("PositionReferenceIndicator"),
                    "BodyPartExamined": source.get("BodyPartExamined") or "HEAD",
                    "DerivationDescription": image.method,
                    "SourceImageSequence": [_nearest(sources, position, plane)],
                    "BurnedInAnnotation": "NO",
                    "SamplesPerPixel": 1,
                    "PhotometricInterpretation": "MONOCHROME2",
                    "Rows": values.shape[0],
                    "Columns": values.shape[1],
                    "BitsAllocated": 16,
                    "BitsStored": 16,
                    "HighBit": 15,
                    "PixelData": values.tobytes(),
                },
            )
            dataset.save_as(folder / f"{k + 1:04d}.dcm", enforce_file_format=True)


def _encoded(image: Derived, kind: str) -> tuple[npt.NDArray[Any], dict[str, Any]]:
    """Return 16-bit values and the attributes by which they are read and shown."""
    from pydicom.valuerep import DS

    low, high = image.range.low, image.range.high
    if kind == "CT":
        stored = np.clip(np.rint(image.slices), -(2**15), 2**15 - 1).astype("<i2")
        return stored, {
            "PixelRepresentation": 1,
            "RescaleSlope": 1,
            "RescaleIntercept": 0,
            "WindowCenter": 40,  # a brain in HU
            "WindowWidth": 80,
        }
    if kind == "PT":
        brightest = max(float(image.slices.max()), high)
        slope = DS(brightest / (2**15 - 1), auto_format=True)
        scale, rescale = 1 / float(str(slope)), {"RescaleSlope": slope, "RescaleIntercept": 0}
    elif image.kind.physical:
        return _rescaled(image)
    else:
        scale, rescale = 1.0, {}
        while scale * high < FINEST:
            scale *= 10
        while scale * float(image.slices.max()) > 2**16 - 1:
            scale /= 10
        low, high = scale * low, scale * high
    stored = np.clip(np.rint(scale * image.slices), 0, 2**16 - 1).astype("<u2")
    return stored, {
        "PixelRepresentation": 0,
        "WindowCenter": DS((low + high) / 2, auto_format=True),
        "WindowWidth": DS(high - low, auto_format=True),
        **rescale,
    }


def _rescaled(image: Derived) -> tuple[npt.NDArray[Any], dict[str, Any]]:
    """Encode MR with a unit in 16 bits: value = slope · stored + intercept."""
    from pydicom.valuerep import DS

    least = min(float(image.slices.min()), image.range.low)
    most = max(float(image.slices.max()), image.range.high)
    slope = DS((most - least) / (2**16 - 1), auto_format=True)
    intercept = DS(least, auto_format=True)
    stored = (image.slices - float(str(intercept))) / float(str(slope))
    return np.clip(np.rint(stored), 0, 2**16 - 1).astype("<u2"), {
        "PixelRepresentation": 0,
        "WindowCenter": DS((image.range.low + image.range.high) / 2, auto_format=True),
        "WindowWidth": DS(image.range.high - image.range.low, auto_format=True),
        "RescaleSlope": slope,
        "RescaleIntercept": intercept,
        "RescaleType": "US",
    }


def _set(dataset: Dataset, values: Mapping[str, Any]) -> None:
    for keyword, value in values.items():
        if keyword != "SOPClassUID":
            setattr(dataset, keyword, value)


def _whole_header(path: Path) -> Dataset:
    from pydicom import dcmread

    with opened(path) as file:
        return dcmread(file, stop_before_pixels=True, force=True)


def _source_images(reference: Series) -> list[tuple[npt.NDArray[Any], Dataset]]:
    """Return the position in mm (LPS) of each image of a series, and an item that refers to it."""
    from highdicom.sr import CodedConcept
    from pydicom import Dataset

    found = []
    files = [list(frame_headers(read_header(path))) for path in reference.files]
    every = [(k, frame) for k, frames in enumerate(files) for frame in range(len(frames))]
    for k, frame in reference.selected or every:
        header, item = files[k][frame], Dataset()
        item.ReferencedSOPClassUID = header.SOPClassUID
        item.ReferencedSOPInstanceUID = header.SOPInstanceUID
        if len(files[k]) > 1:
            item.ReferencedFrameNumber = frame + 1
        item.PurposeOfReferenceCodeSequence = [CodedConcept(*SOURCE_IMAGE)]
        found.append((np.array(header.ImagePositionPatient, float), item))
    return found


def _nearest(
    sources: Sequence[tuple[npt.NDArray[Any], Dataset]], place: Dataset, plane: Dataset
) -> Dataset:
    """Return the item of the image that is nearest to a slice along the slice's normal."""
    along = np.array(plane.ImageOrientationPatient, float)
    normal = np.cross(along[:3], along[3:])
    position = np.array(place.ImagePositionPatient, float)
    return min(sources, key=lambda source: abs(float((source[0] - position) @ normal)))[1]
