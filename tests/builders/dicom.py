"""DICOM series as files: oblique MR, CT and PET whose place and values are known."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from any2all_data.dicom import Series, find_series, read_series
from any2all_operators import UserError
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import (
    UID,
    CTImageStorage,
    ExplicitVRLittleEndian,
    MRImageStorage,
    PositronEmissionTomographyImageStorage,
)

ROWS, COLUMNS, SLICES = 48, 40, 4


SPACING = (1.5, 0.75, 3.0)  # between rows, between columns, between slices; mm


CLASSES = {
    "MR": MRImageStorage,
    "CT": CTImageStorage,
    "PT": PositronEmissionTomographyImageStorage,
}


def oblique() -> np.ndarray:
    """Directions (3, 3) of a row, a column and the normal, tilted about two axes."""
    a, b = np.radians(20), np.radians(-35)
    about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    about_z = np.array([[np.cos(b), -np.sin(b), 0], [np.sin(b), np.cos(b), 0], [0, 0, 1]])
    return (about_z @ about_x).T


def pixels(rows: int = ROWS, columns: int = COLUMNS, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 4000, (rows, columns), dtype=np.uint16)


def image(number: int, modality: str = "MR", uid: str = "1.2.3", **tags: Any) -> Dataset:
    """Slice ``number`` of an oblique series; ``tags`` are put over it, None leaves one out."""
    row, column, normal = oblique()
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = CLASSES[modality]
    meta.MediaStorageSOPInstanceUID = UID(f"{uid}.{number + 1}")
    dataset = Dataset()
    dataset.file_meta = meta
    position = np.array([-40.0, 25.0, 10.0]) + number * SPACING[2] * normal
    values: dict[str, Any] = {
        "SOPClassUID": CLASSES[modality],
        "SOPInstanceUID": f"{uid}.{number + 1}",
        "StudyInstanceUID": "1.2",
        "SeriesInstanceUID": uid,
        "FrameOfReferenceUID": "1.2.9",
        "PatientID": "secret-id",
        "PatientName": "Secret^Name",
        "Modality": modality,
        "SeriesNumber": 3,
        "SeriesDescription": "t1_mprage",
        "InstanceNumber": number + 1,
        "ImageType": ["ORIGINAL", "PRIMARY"],
        "ImagePositionPatient": [round(float(x), 6) for x in position],
        "ImageOrientationPatient": [round(float(x), 6) for x in (*row, *column)],
        "PixelSpacing": list(SPACING[:2]),
        "Rows": ROWS,
        "Columns": COLUMNS,
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": 16,
        "BitsStored": 16,
        "HighBit": 15,
        "PixelRepresentation": 0,
        "PixelData": pixels(seed=number).tobytes(),
        **tags,
    }
    for keyword, value in values.items():
        if value is not None:
            setattr(dataset, keyword, value)
    return dataset


def save(folder: Path, images: Sequence[Dataset]) -> Path:
    """Under names that say nothing, the last image first."""
    folder.mkdir(parents=True, exist_ok=True)
    for k, dataset in enumerate(reversed(images)):
        dataset.save_as(folder / f"{k:03d}", enforce_file_format=True)
    return folder


def stack(
    count: int = SLICES, modality: str = "MR", uid: str = "1.2.3", **tags: Any
) -> list[Dataset]:
    return [image(k, modality, uid, **tags) for k in range(count)]


def only(folder: Path) -> Series:
    (series,), damaged = find_series(folder)
    assert damaged == []
    return series


def refusal(folder: Path) -> str:
    with pytest.raises(UserError) as caught:
        read_series(only(folder))
    return str(caught.value)


WEIGHT_KG, DOSE_BQ, HALF_LIFE_S = 70, 370e6, 6586.2


def pet(**tags: Any) -> list[Dataset]:
    """Injected at 09:30, the scan starts at 10:30. Tags of the dose are given as dose_<keyword>."""
    item = Dataset()
    dose = {
        "RadionuclideTotalDose": DOSE_BQ,
        "RadionuclideHalfLife": HALF_LIFE_S,
        "RadiopharmaceuticalStartTime": "093000",
        "Radiopharmaceutical": "FDG",
    }
    dose |= {k[5:]: v for k, v in tags.items() if k.startswith("dose_")}
    for keyword, value in dose.items():
        if value is not None:
            setattr(item, keyword, value)
    values: dict[str, Any] = {
        "Units": "BQML",
        "DecayCorrection": "START",
        "CorrectedImage": ["DECY", "ATTN"],
        "PatientWeight": WEIGHT_KG,
        "SeriesDate": "20200102",
        "SeriesTime": "103000.0",
        "AcquisitionDate": "20200102",
        "AcquisitionTime": "103000",
        "RescaleSlope": 2.5,
        "RescaleIntercept": 0,
        "RadiopharmaceuticalInformationSequence": [item],
    }
    values |= {k: v for k, v in tags.items() if not k.startswith("dose_")}
    return stack(modality="PT", **values)
