"""Read stored pixel values of DICOM frames. As a program, it isolates a decoder's crash."""

from __future__ import annotations

import gzip
import io
import json
import os
import sys
import warnings
from collections.abc import Sequence
from typing import Any, BinaryIO, cast

import numpy as np
import numpy.typing as npt

PROGRESSIVE = ("1.2.840.10008.1.2.4.53", "1.2.840.10008.1.2.4.55")
"""Retired JPEG syntaxes that pydicom does not know. libjpeg reads them as JPEG Extended."""
JPEG_EXTENDED = "1.2.840.10008.1.2.4.51"
GZIP = b"\x1f\x8b"


def opened(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a file, and decompress it if its content is gzip, whatever its name is."""
    with open(path, "rb") as file:
        packed = file.read(2) == GZIP
    return cast(BinaryIO, gzip.open(path)) if packed else open(path, "rb")


def stored_values(path: str | os.PathLike[str], frames: Sequence[int]) -> npt.NDArray[Any]:
    """Return frames (N, rows, columns) by index from 0, as stored, without the rescale slope."""
    from pydicom import dcmread
    from pydicom.pixels.utils import pixel_array
    from pydicom.uid import (
        UID,
        ExplicitVRBigEndian,
        ExplicitVRLittleEndian,
        ImplicitVRLittleEndian,
    )

    with opened(path) as file:
        dataset = dcmread(file, force=True)
    syntax = dataset.file_meta.get("TransferSyntaxUID")
    if syntax is None:  # a file without its preamble
        implicit, little_endian = dataset.original_encoding
        explicit = ExplicitVRLittleEndian if little_endian else ExplicitVRBigEndian
        syntax = ImplicitVRLittleEndian if implicit else explicit
    dataset.file_meta.TransferSyntaxUID = UID(JPEG_EXTENDED if syntax in PROGRESSIVE else syntax)
    if len(frames) == int(dataset.get("NumberOfFrames") or 1):
        whole = pixel_array(dataset)
        return whole.reshape(-1, *whole.shape[-2:])[list(frames)]
    return np.stack([pixel_array(dataset, index=frame) for frame in frames])


def main() -> None:
    """Read {"memory": bytes, "frames": [[path, [frame ...]] ...]}; write one .npy per path."""
    request = json.load(sys.stdin)
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (request["memory"], request["memory"]))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    except (ImportError, ValueError, OSError):
        pass  # the system has no such limit, or a lower one
    warnings.simplefilter("ignore")
    for path, frames in request["frames"]:
        buffer = io.BytesIO()
        np.save(buffer, stored_values(path, frames), allow_pickle=False)
        sys.stdout.buffer.write(buffer.getbuffer())


if __name__ == "__main__":
    main()
