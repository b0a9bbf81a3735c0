"""Trees as people have them: series in pieces, slices twice, files packed, bare or not there."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from any2all_data.dicom import find_series, read_series
from any2all_operators import UserError
from builders.dicom import COLUMNS, ROWS, image, only, pixels, refusal, save, stack
from pydicom import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import dcmwrite, write_dataset

SAGITTAL = [0, 1.0, 0, 0, 0, -1]


def voxels(folder: Path) -> np.ndarray:
    return np.asarray(read_series(only(folder)).dataobj)


def plain(count: int) -> np.ndarray:
    """What ``stack(count)`` holds, (columns, rows, slices)."""
    return np.stack([pixels(seed=k).T for k in range(count)], -1).astype(np.float32)


def test_a_uid_for_each_slice_is_one_series(tmp_path: Path) -> None:
    images = [image(k, SeriesInstanceUID=f"1.2.3.{k}") for k in range(5)]
    other = [image(k, SeriesInstanceUID=f"1.2.4.{k}", SeriesNumber=4) for k in range(3)]
    for k, dataset in enumerate(other):
        dataset.SOPInstanceUID = f"1.2.4.{k}.1"
    series, damaged = find_series(save(tmp_path, [*images, *other]))
    assert not damaged
    assert [s.frames for s in series] == [3, 5]
    np.testing.assert_array_equal(read_series(series[1]).dataobj, plain(5))
    assert series[1].warnings == ("5 series with one number are merged into one volume",)


def test_parts_of_a_stack_are_one_series_and_repeats_are_not(tmp_path: Path) -> None:
    parts = [image(k, SeriesInstanceUID=f"1.2.3.{k % 2}") for k in range(6)]
    np.testing.assert_array_equal(voxels(save(tmp_path / "parts", parts)), plain(6))
    twice = [image(k, uid=f"1.2.{n}") for n in (5, 6) for k in range(6)]
    series, _ = find_series(save(tmp_path / "twice", twice))
    assert [s.frames for s in series] == [6, 6]
    uneven = [image(k, SeriesInstanceUID=f"1.2.3.{k // 5}") for k in (0, 1, 2, 3, 5, 6, 7, 8)]
    series, _ = find_series(save(tmp_path / "uneven", uneven))
    assert [s.frames for s in series] == [4, 4]


@pytest.mark.parametrize(
    "tags",
    [
        {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]},
        {"ImageOrientationPatient": SAGITTAL},
        {"ImageOrientationPatient": SAGITTAL, "Rows": COLUMNS, "Columns": ROWS},
        {"ImagePositionPatient": None, "ImageOrientationPatient": None},  # a screenshot
    ],
)
def test_a_localizer_in_a_series_is_dropped(tmp_path: Path, tags: dict[str, Any]) -> None:
    first = image(0, SOPInstanceUID="1.2.3.99", **tags)
    series = only(save(tmp_path, [first, *stack(6)]))
    np.testing.assert_array_equal(read_series(series).dataobj, plain(6))
    said = "1 of its 7 frames are dropped: localizer or other geometry"
    assert series.warnings == (said,)
    assert "LOCALIZER" not in series.tags["ImageType"]


def test_two_stacks_in_a_series_are_refused(tmp_path: Path) -> None:
    """Nobody can tell which of them is meant."""
    across = [
        image(k, uid="1.2.9", SeriesInstanceUID="1.2.3", ImageOrientationPatient=SAGITTAL)
        for k in range(4)
    ]
    assert "mixed orientations: 2" in refusal(save(tmp_path, [*stack(6), *across]))


def test_a_slice_stored_twice(tmp_path: Path) -> None:
    """Copies are dropped, whatever their UID or header; two different images of a place are not."""
    for name, tags in {
        "same file": {},
        "other uid": {"SOPInstanceUID": "1.2.3.99"},
        "same uid, other header": {"InstitutionName": "elsewhere"},
    }.items():
        folder = save(tmp_path / name, [*stack(5), image(2, **tags)])
        np.testing.assert_array_equal(voxels(folder), plain(5), err_msg=name)
    other: dict[str, dict[str, Any]] = {
        "other pixels": {"SOPInstanceUID": "1.2.3.99", "PixelData": bytes(2 * ROWS * COLUMNS)},
        "same uid": {"PixelData": bytes(2 * ROWS * COLUMNS)},
        "other slope": {"SOPInstanceUID": "1.2.3.99", "RescaleSlope": 2, "RescaleIntercept": 0},
    }
    for name, changed in other.items():
        said = refusal(save(tmp_path / name, [*stack(5), image(2, **changed)]))
        assert "6 images at 5 places, and those at one place differ" in said


def bare(dataset: Dataset, implicit: bool, little: bool, length: bool) -> bytes:
    """A data set without preamble and file meta information, perhaps with its group length."""
    buffer = DicomBytesIO()
    buffer.is_implicit_VR, buffer.is_little_endian = implicit, little
    if length:
        dataset.add_new(0x00080000, "UL", 1000)
    if not little:
        dataset.PixelData = np.frombuffer(dataset.PixelData, "<u2").astype(">u2").tobytes()
    write_dataset(buffer, dataset)
    return buffer.getvalue()


def without_preamble(dataset: Dataset) -> bytes:
    buffer = BytesIO()
    dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()[132:]


BARE: dict[str, Callable[[Dataset], bytes]] = {
    "explicit little": lambda d: bare(d, False, True, False),
    "explicit big": lambda d: bare(d, False, False, False),
    "implicit little": lambda d: bare(d, True, True, False),
    "explicit little, group length": lambda d: bare(d, False, True, True),
    "explicit big, group length": lambda d: bare(d, False, False, True),
    "implicit little, group length": lambda d: bare(d, True, True, True),
    "file meta information alone": without_preamble,
    "gzip": lambda d: gzip.compress(b"\0" * 128 + b"DICM" + without_preamble(d)),
    "gzip, bare": lambda d: gzip.compress(bare(d, False, True, True)),
}


def written(folder: Path, files: Sequence[bytes], name: str = "IM{:04}") -> Path:
    folder.mkdir(parents=True)
    for k, content in enumerate(files):
        (folder / name.format(k)).write_bytes(content)
    return folder


@pytest.mark.parametrize("kind", BARE)
def test_files_without_preamble_or_packed_are_read(tmp_path: Path, kind: str) -> None:
    name = "{:04}.dcm.gz" if "gzip" in kind else "IM{:04}"
    folder = written(tmp_path / "a", [BARE[kind](d) for d in stack(4)], name)
    np.testing.assert_array_equal(voxels(folder), plain(4))


def test_a_damaged_packed_file_is_named(tmp_path: Path) -> None:
    files = [BARE["gzip"](dataset) for dataset in stack(4)]
    files[3] = files[3][:20]
    series, damaged = find_series(written(tmp_path / "a", files, "{:04}.dcm.gz"))
    assert [path.name for path, _ in damaged] == ["0003.dcm.gz"]
    assert [s.frames for s in series] == [3]
    cut = BARE["gzip"](image(3))
    (tmp_path / "a/0003.dcm.gz").write_bytes(cut[:-2000])
    with pytest.raises(UserError, match="damaged: pixel data can't be decoded"):
        read_series(only(tmp_path / "a"))


@pytest.mark.parametrize("start", [b"", b"\x08\0", b"\x08\0\0\0UL", bytes(300), b"\x08" * 300])
def test_other_files_are_no_dicom(tmp_path: Path, start: bytes) -> None:
    (tmp_path / "x").write_bytes(start)
    (tmp_path / "x.gz").write_bytes(gzip.compress(start))
    assert find_series(tmp_path) == ([], [])
