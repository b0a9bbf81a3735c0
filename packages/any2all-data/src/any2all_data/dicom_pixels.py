"""Read the stored values of a series' frames, decoding them in a separate process."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from any2all_operators import UserError

from any2all_data import decode

if TYPE_CHECKING:
    from pydicom import Dataset

LARGEST_RATIO = 2**15
"""Largest ratio of decoded size to file size, for more than SMALL bytes."""
SMALL = 2**28


def stored(
    files: Sequence[Path], selected: Sequence[tuple[int, int]], shape: tuple[int, int]
) -> Iterator[npt.NDArray[Any]]:
    """Yield the stored values of each selected (file, frame); (rows, columns) = ``shape``.

    ``selected`` is sorted. Compressed frames are decoded in a separate process with limits of time
    and memory, because decoders are native code that a damaged file can crash or stall.

    Raises UserError if pixel data is damaged or its decoder isn't installed.
    """
    wanted = {
        files[file]: [frame for _, frame in group]
        for file, group in groupby(selected, lambda pair: pair[0])
    }
    for path, frames in wanted.items():
        size = 4 * shape[0] * shape[1] * len(frames)
        if size > max(SMALL, LARGEST_RATIO * path.stat().st_size):
            raise UserError("damaged: its header claims more pixels than the file can hold")
    request = [(str(path), frames) for path, frames in wanted.items() if _compressed(path)]
    compressed = {path for path, _ in request}
    size = 4 * shape[0] * shape[1] * len(selected)
    decoded = io.BytesIO(_decoded(request, size) if request else b"")
    for path, frames in wanted.items():
        try:
            values = (
                np.load(decoded, allow_pickle=False)
                if str(path) in compressed
                else decode.stored_values(path, frames)
            )
        except Exception as error:  # whatever damaged pixel data sets off
            raise _no_pixels(type(error).__name__) from None
        if values.shape != (len(frames), *shape):
            raise _no_pixels("their size is not the header's")
        yield from values


def padding(values: npt.NDArray[Any], header: Dataset) -> npt.NDArray[np.bool_]:
    """Mark stored values that are padding.

    Padding is PixelPaddingValue, or the range from it to PixelPaddingRangeLimit. Both are read
    with the sign of the stored values. Source: DICOM PS3.3, C.7.5.1.1.2.
    """
    first = header.get("PixelPaddingValue")
    if first is None:
        return np.zeros(values.shape, bool)
    last = header.get("PixelPaddingRangeLimit")
    ends = np.array([first, first if last is None else last], np.int64).astype(values.dtype)
    return (values >= ends.min()) & (values <= ends.max())


def _compressed(path: Path) -> bool:
    """Whether a decoder is needed. Raises UserError if it isn't installed."""
    from pydicom import dcmread
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.uid import UID

    with decode.opened(path) as file:
        header = dcmread(file, specific_tags=[], stop_before_pixels=True, force=True)
    syntax = header.file_meta.get("TransferSyntaxUID")
    if syntax is None or not UID(syntax).is_transfer_syntax or not UID(syntax).is_encapsulated:
        return False
    try:
        known = get_decoder(decode.JPEG_EXTENDED if syntax in decode.PROGRESSIVE else syntax)
    except NotImplementedError:
        raise UserError(
            f"transfer syntax {UID(syntax).name} is not read; store it uncompressed"
        ) from None
    if not known.is_available:
        raise UserError(
            f"transfer syntax {UID(syntax).name} needs a decoder; run pip install "
            "'any2all-data[dicom]'"
        )
    return True


def _decoded(request: Sequence[tuple[str, list[int]]], size: int) -> bytes:
    """Return the .npy files that :mod:`any2all_data.decode` writes, ``size`` bytes in total."""
    try:
        done = subprocess.run(
            [sys.executable, "-P", decode.__file__],
            input=json.dumps({"memory": 2**32 + 4 * size, "frames": request}).encode(),
            capture_output=True,
            timeout=60 + size / 2**20,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise _no_pixels("the decoder stalled") from None
    if done.returncode:
        raise _no_pixels("the decoder failed")
    return done.stdout


def _no_pixels(why: str) -> UserError:
    return UserError(f"damaged: pixel data can't be decoded ({why}); export it again")
