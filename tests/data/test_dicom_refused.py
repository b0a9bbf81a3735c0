"""DICOM that cannot be read is refused by name, and the rest goes on."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from any2all_data.dicom import find_series, read_series
from any2all_operators import UserError
from builders.dicom import (
    COLUMNS,
    ROWS,
    SLICES,
    SPACING,
    image,
    oblique,
    only,
    pet,
    refusal,
    save,
    stack,
)
from builders.series import SYNTAXES, enhanced
from nibabel.affines import apply_affine
from pydicom import Dataset

FUZZED = int(os.environ.get("FUZZED", "200"))
HOUNSFIELD: dict[str, Any] = {"modality": "CT", "RescaleSlope": 1, "RescaleIntercept": -1024}


def tilted(step: float = 0.8, count: int = SLICES, **tags: Any) -> list[Dataset]:
    """Slices moved along their column as they go up, ``step`` mm each."""
    images = stack(count, **tags)
    for number, dataset in enumerate(images):
        moved = np.array(dataset.ImagePositionPatient, float) + step * number * oblique()[1]
        dataset.ImagePositionPatient = [round(float(x), 6) for x in moved]
    return images


def unevenly_tilted() -> list[Dataset]:
    images = tilted(**HOUNSFIELD)
    moved = np.array(images[2].ImagePositionPatient, float) + 0.3 * oblique()[1]
    images[2].ImagePositionPatient = [round(float(x), 6) for x in moved]
    return images


def uneven() -> list[Dataset]:
    images = stack()
    moved = np.array(images[1].ImagePositionPatient, float) + 0.4 * oblique()[2]
    images[1].ImagePositionPatient = [round(float(x), 6) for x in moved]
    return images


def mixed() -> list[Dataset]:
    images = stack()
    images[3].ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    return images


def with_tags(count: int = SLICES, **tags: Any) -> Callable[[], list[Dataset]]:
    return lambda: stack(count, **tags)


REFUSED: dict[str, tuple[Callable[[], list[Dataset]], str]] = {
    "tilted MR": (tilted, "gantry tilt: slices are stacked 14.9° off their normal"),
    "tilt tag": (with_tags(GantryDetectorTilt=12), "GantryDetectorTilt 12.0°"),
    "tilt tag of CT": (with_tags(**HOUNSFIELD, GantryDetectorTilt=12), "stacked 0.0° off"),
    "other tilt in the tag": (
        lambda: tilted(**HOUNSFIELD, GantryDetectorTilt=-20),
        "stacked 14.9° off their normal, but GantryDetectorTilt is 20.0°",
    ),
    "too steep": (lambda: tilted(2.4, **HOUNSFIELD), "stacked 38.7° off their normal; expected"),
    "shifted unevenly": (unevenly_tilted, "gantry tilt: slices are shifted unevenly"),
    "one missing": (
        lambda: [d for k, d in enumerate(stack(6)) if k != 2],
        "missing slices: 1 (increments of 3 to 6 mm)",
    ),
    "two slices": (with_tags(2), "missing slices: there are 2"),
    "uneven": (uneven, "uneven increments: from 2.6 to 3.4 mm"),
    "mixed": (mixed, "mixed orientations: 2 in one series"),
    "single slice": (with_tags(1), "not a volume: a single slice"),
    "localizer": (with_tags(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]), "localizer"),
    "mosaic": (with_tags(ImageType=["ORIGINAL", "PRIMARY", "M", "MOSAIC"]), "mosaic"),
    "one place": (with_tags(ImagePositionPatient=[0, 0, 0]), "not a volume: 4 images at 1 place"),
    "no position": (with_tags(ImagePositionPatient=None), "not a volume: no ImagePositionPatient"),
    "no spacing": (with_tags(PixelSpacing=None), "not a volume: no PixelSpacing"),
    "sizes": (
        lambda: [*stack(3), image(3, Rows=COLUMNS, Columns=ROWS)],
        "not a volume: mixed image sizes",
    ),
    "colour": (
        with_tags(
            SamplesPerPixel=3,
            PlanarConfiguration=0,
            PhotometricInterpretation="RGB",
            BitsAllocated=8,
            BitsStored=8,
            HighBit=7,
            PixelData=bytes(ROWS * COLUMNS * 3),
        ),
        "not a volume: colour images",
    ),
    "no pixels": (with_tags(PixelData=None), "damaged: pixel data can't be decoded"),
    "no image": (with_tags(Rows=None, PixelData=None), "not a volume: it holds no images"),
    "huge": (with_tags(Rows=65535, Columns=65535), "claims more than"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_by_name(tmp_path: Path, case: str) -> None:
    """The message names folder, series and reason, and nobody."""
    build, reason = REFUSED[case]
    message = refusal(save(tmp_path, build()))
    assert message.startswith(f"{tmp_path}: series 3: ")
    assert reason in message
    assert "ecret" not in message


@pytest.mark.parametrize(("step", "tag"), [(0.8, -15.0), (-1.1, None)])
def test_a_tilted_gantry_is_straightened(tmp_path: Path, step: float, tag: float | None) -> None:
    """A smooth object is where the headers say; what no slice covers is air, and so is padding."""
    count = 10
    row, column, normal = oblique()
    images = tilted(step, count, **HOUNSFIELD, GantryDetectorTilt=tag)
    across, down = np.meshgrid(np.arange(COLUMNS) * SPACING[1], np.arange(ROWS) * SPACING[0])

    def object_at(points: np.ndarray) -> np.ndarray:
        return 100 + 10 * points @ row + 8 * points @ column + 5 * points @ normal  # HU, x in LPS

    for dataset in images:
        place = np.array(dataset.ImagePositionPatient, float)
        points = place + across[..., None] * row + down[..., None] * column
        stored = np.round(object_at(points)) + 2048
        assert stored.min() > 1024
        if dataset.InstanceNumber == 5:
            stored[:2, :2] = 0
        dataset.PixelData = stored.astype(np.uint16).tobytes()
        dataset.RescaleIntercept = -2048
    series = only(save(tmp_path, images))
    assert any(f"tilted by {15 if step > 0 else 20}°" in said for said in series.warnings)
    image = read_series(series)
    array, affine = np.asarray(image.dataobj), image.affine
    axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    assert np.allclose(axes.T @ axes, np.eye(3), atol=1e-6)
    assert array.shape == (COLUMNS, ROWS + round(np.ceil(abs(step) * (count - 1) / 1.5)), count)
    voxels = np.moveaxis(np.indices(array.shape), 0, -1)
    points = apply_affine(np.diag([-1.0, -1, 1, 1]) @ affine, voxels)
    inside = array > -900
    assert inside.mean() > 0.7
    interior = inside & (np.roll(inside, 1, 1) & np.roll(inside, -1, 1))
    assert np.abs(array - object_at(points))[interior].max() < 1.5
    assert np.unique(array[~inside]) == [-1000]


def test_the_rest_goes_on(tmp_path: Path) -> None:
    """Files that are no DICOM are passed over, damaged ones named, copies taken once."""
    save(tmp_path / "a", stack(uid="1.2.5"))
    save(tmp_path / "copy", stack(uid="1.2.5"))
    save(tmp_path / "tilted", tilted())  # no CT
    (tmp_path / "notes.txt").write_text("DICM is not at its place")
    (tmp_path / "DICOMDIR").write_bytes(b"")
    (tmp_path / "cut.dcm").write_bytes((tmp_path / "a" / "000").read_bytes()[:300])
    (tmp_path / "noise.dcm").write_bytes(bytes(range(256)) * 4)
    seen: list[None] = []
    series, damaged = find_series(tmp_path, lambda: seen.append(None))
    assert [s.frames for s in series] == [SLICES, SLICES]
    assert [path.name for path, _ in damaged] == ["cut.dcm", "noise.dcm"]
    assert len(seen) == 3 * SLICES + 4
    assert read_series(series[0]).shape == (COLUMNS, ROWS, SLICES)
    with pytest.raises(UserError, match="gantry tilt"):
        read_series(series[1])


def test_cut_pixel_data_is_refused(tmp_path: Path) -> None:
    save(tmp_path, stack())
    last = tmp_path / "003"
    last.write_bytes(last.read_bytes()[:-9])
    assert "damaged: pixel data can't be decoded" in refusal(tmp_path)


def test_links_out_of_the_folder_are_not_followed(tmp_path: Path) -> None:
    outside = save(tmp_path / "outside", stack())
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / "folder").symlink_to(outside)
    (inside / "file").symlink_to(outside / "000")
    os.mkfifo(inside / "pipe")
    assert find_series(inside) == ([], [])


def test_patients_of_one_series_uid_are_kept_apart(tmp_path: Path) -> None:
    save(tmp_path / "a", stack(PatientID="1"))
    save(tmp_path / "b", stack(PatientID=None, PatientName="2"))
    series, _ = find_series(tmp_path)
    assert [s.patient for s in series] == ["1", "2"]


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        find_series(tmp_path / "absent")


def test_nothing_of_the_header_is_warned_or_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """pydicom quotes a character set that it doesn't know."""
    save(tmp_path, stack(SpecificCharacterSet="ISO_IR 192"))
    for path in tmp_path.iterdir():  # it would not write such a file
        path.write_bytes(path.read_bytes().replace(b"ISO_IR 192", b"SECRET CHA"))
    caplog.set_level(logging.DEBUG)
    caplog.clear()
    read_series(only(tmp_path))
    assert "SECRET" not in caplog.text + "".join(capfd.readouterr())


def damage(content: bytes, rng: np.random.Generator) -> bytes:
    """Cut short, or with some bits flipped; half of the flips hit the header."""
    if rng.random() < 0.2:
        return content[: rng.integers(len(content))]
    data = np.frombuffer(content, np.uint8).copy()
    end = len(data) if rng.random() < 0.5 else min(len(data), 1500)
    for place in rng.integers(132, end, rng.choice([1, 4, 32])):
        data[place] ^= 1 << rng.integers(8)
    return data.tobytes()


def fuzz(
    folder: Path, whole: Path, sources: Sequence[Path], count: int, seed: int = 0
) -> dict[str, int]:
    """Damage one file of a copy of a source series, ``count`` times, beside a whole patient.

    Returns how many series and files went how; fails where a damaged file ends in anything but a
    volume or a refusal of one line, or touches the other patient.
    """
    rng = np.random.default_rng(seed)
    outcomes = {"volume": 0, "refused": 0, "damaged file": 0, "no DICOM any more": 0}
    expected = np.asarray(read_series(only(whole)).dataobj)
    for k in range(count):
        tree = folder / str(k)
        shutil.copytree(whole, tree / "whole")
        shutil.copytree(sources[k % len(sources)], tree / "fuzzed")
        victim = Path(rng.choice(sorted((tree / "fuzzed").iterdir())))
        victim.write_bytes(damage(victim.read_bytes(), rng))
        series, damaged = find_series(tree)
        parents = [one.files[0].parent.name for one in series]
        assert parents.count("whole") == 1
        assert {path.parent.name for path, _ in damaged} <= {"fuzzed"}
        outcomes["damaged file"] += len(damaged)
        outcomes["no DICOM any more"] += parents == ["whole"] and not damaged
        for one, parent in zip(series, parents, strict=True):
            try:
                voxels = np.asarray(read_series(one).dataobj)
            except UserError as error:
                outcomes["refused" if "\n" not in str(error) else "more than a line"] += 1
                continue
            if parent == "whole":
                np.testing.assert_array_equal(voxels, expected)
            else:
                outcomes["volume"] += 1
        shutil.rmtree(tree)
    return outcomes


@pytest.mark.slow
def test_fuzzed_files_end_in_a_refusal(tmp_path: Path) -> None:
    """FUZZED=2500 pytest tests/data/test_dicom.py -k fuzzed -s: 2,500 of them."""
    whole = save(tmp_path / "whole", stack())
    coded = [stack() for _ in SYNTAXES]
    for images, syntax in zip(coded, SYNTAXES, strict=True):
        for dataset in images:
            dataset.compress(syntax, generate_instance_uid=False)
    sources = []
    for k, images in enumerate([*6 * [stack(), [enhanced()], pet()], *coded]):
        for n, dataset in enumerate(images):
            dataset.PatientID = dataset.SeriesInstanceUID = f"1.2.{k + 30}"
            dataset.SOPInstanceUID = f"1.2.{k + 30}.{n}"
        sources.append(save(tmp_path / "sources" / str(k), images))
    outcomes = fuzz(tmp_path / "trees", whole, sources, FUZZED)
    print(outcomes)
    assert outcomes["refused"] + outcomes["damaged file"] > FUZZED / 10
