"""Compressed syntaxes, and a series as one enhanced file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from builders.dicom import (
    SLICES,
    image,
    pixels,
)
from pydicom import Dataset
from pydicom.uid import (
    EnhancedMRImageStorage,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

SYNTAXES = (RLELossless, JPEGLSLossless, JPEG2000Lossless)


def enhanced(echoes: Sequence[float] = (2.5,), uid: str = "1.2.4") -> Dataset:
    """All slices of one or more echoes in one file, the last slice first; slopes differ."""
    frames = [(echo, number) for number in reversed(range(SLICES)) for echo in echoes]
    slices = {number: image(number) for number in range(SLICES)}
    dataset = image(0, uid=uid)
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"):
        delattr(dataset, keyword)
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = EnhancedMRImageStorage
    dataset.NumberOfFrames = len(frames)

    def item(**values: Any) -> list[Dataset]:
        holder = Dataset()
        for keyword, value in values.items():
            setattr(holder, keyword, value)
        return [holder]

    first = slices[0]
    dataset.SharedFunctionalGroupsSequence = item(
        PlaneOrientationSequence=item(ImageOrientationPatient=first.ImageOrientationPatient),
        PixelMeasuresSequence=item(PixelSpacing=first.PixelSpacing),
    )
    dataset.PerFrameFunctionalGroupsSequence = [
        item(
            PlanePositionSequence=item(ImagePositionPatient=slices[n].ImagePositionPatient),
            MREchoSequence=item(EffectiveEchoTime=echo),
            PixelValueTransformationSequence=item(
                RescaleSlope=echo, RescaleIntercept=n, RescaleType="US"
            ),
        )[0]
        for echo, n in frames
    ]
    dataset.PixelData = b"".join(pixels(seed=n).tobytes() for _, n in frames)
    return dataset
