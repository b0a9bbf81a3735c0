"""DICOM trees: what becomes a volume, where it lies, in what unit; and what is refused, by name."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from any2all_data.dicom import find_series, read_series, unit_of
from any2all_data.suv import suv_factor
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
    pixels,
    refusal,
    save,
    stack,
)
from nibabel.affines import apply_affine
from pydicom import Dataset
from pydicom.uid import (
    EnhancedMRImageStorage,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

SYNTAXES = (RLELossless, JPEGLSLossless, JPEG2000Lossless)
FUZZED = int(os.environ.get("FUZZED", "200"))


def test_oblique_series_in_shuffled_order(tmp_path: Path) -> None:
    """Every voxel is where PS3.3 C.7.6.2.1.1 puts it, x and y turned from L, P to R, A."""
    images = stack()
    shuffled = [images[k] for k in (2, 0, 3, 1)]
    series = only(save(tmp_path, shuffled))
    result = read_series(series)
    voxels, affine = np.asarray(result.dataobj), result.affine
    assert voxels.shape == (COLUMNS, ROWS, SLICES)
    assert voxels.dtype == np.float32
    for number, dataset in enumerate(images):
        i, j = 4, 6
        direction = np.array(dataset.ImageOrientationPatient, float)
        corner = np.array(dataset.ImagePositionPatient, float)
        corner += i * SPACING[1] * direction[:3] + j * SPACING[0] * direction[3:]
        index = np.linalg.inv(affine) @ [-corner[0], -corner[1], corner[2], 1]
        k = round(index[2])
        np.testing.assert_allclose(index, [i, j, k, 1], atol=1e-4)
        np.testing.assert_array_equal(voxels[:, :, k].T, pixels(seed=number))
    assert unit_of(series) == "arbitrary"


def test_axial_series_has_the_known_affine(tmp_path: Path) -> None:
    """Rows to the left, columns to posterior, slices up: RAS+ has x and y negative."""
    images = [
        image(k, ImagePositionPatient=[-10, -20, 5 * k], ImageOrientationPatient=[1, 0, 0, 0, 1, 0])
        for k in range(SLICES)
    ]
    affine = read_series(only(save(tmp_path, images))).affine
    np.testing.assert_allclose(
        affine,
        np.array([[-0.75, 0, 0, 10], [0, -1.5, 0, 20], [0, 0, 5, 0], [0, 0, 0, 1]]),
        atol=1e-9,
    )


def test_directions_rounded_to_four_digits_are_read(tmp_path: Path) -> None:
    images = stack()
    for dataset in images:
        dataset.ImageOrientationPatient = [
            round(float(x), 4) for x in dataset.ImageOrientationPatient
        ]
    assert read_series(only(save(tmp_path, images))).shape == (COLUMNS, ROWS, SLICES)


def test_tags_say_what_a_mapping_needs(tmp_path: Path) -> None:
    tags: dict[str, Any] = {
        "EchoTime": 2.5,
        "ScanningSequence": ["GR", "IR"],
        "ProtocolName": "t1\x1b[2J/../x",
    }
    series = only(save(tmp_path, stack(**tags)))
    assert series.tags["SeriesDescription"] == "t1_mprage"
    assert series.tags["EchoTime"] == "2.5"
    assert series.tags["ScanningSequence"] == "GR\\IR"
    assert series.tags["ProtocolName"] == "t1[2J/../x"
    assert (series.patient, series.study, series.frames) == ("secret-id", "1.2", SLICES)
    assert "secret" not in repr(series)


def test_ct_is_in_hounsfield_units(tmp_path: Path) -> None:
    """Slope and intercept of each slice; values can be signed."""
    images = stack(modality="CT", RescaleSlope=1, RescaleIntercept=-1024, RescaleType="HU")
    images[2].RescaleSlope = 2
    series = only(save(tmp_path, images))
    voxels = np.asarray(read_series(series).dataobj)
    assert unit_of(series) == "HU"
    np.testing.assert_array_equal(voxels[:, :, 0].T, pixels(seed=0) - 1024.0)
    np.testing.assert_array_equal(voxels[:, :, 2].T, 2.0 * pixels(seed=2) - 1024.0)


@pytest.mark.parametrize("keyword", ["RescaleSlope", "RescaleIntercept"])
def test_ct_without_rescale_is_refused(tmp_path: Path, keyword: str) -> None:
    tags: dict[str, Any] = {"RescaleSlope": 1, "RescaleIntercept": -1024, keyword: None}
    assert f"no {keyword}, so no HU" in refusal(save(tmp_path, stack(modality="CT", **tags)))


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_compressed_series_is_the_same_volume(tmp_path: Path, syntax: str) -> None:
    plain = read_series(only(save(tmp_path / "plain", stack())))
    images = stack()
    for dataset in images:
        dataset.compress(syntax, generate_instance_uid=False)
    coded = read_series(only(save(tmp_path / "coded", images)))
    np.testing.assert_array_equal(plain.dataobj, coded.dataobj)
    np.testing.assert_array_equal(plain.affine, coded.affine)


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


def test_enhanced_file_is_the_volume_of_its_slices(tmp_path: Path) -> None:
    classic = read_series(only(save(tmp_path / "classic", stack())))
    series = only(save(tmp_path / "enhanced", [enhanced()]))
    result = read_series(series)
    np.testing.assert_allclose(result.affine, classic.affine, atol=1e-6)
    expected = 2.5 * np.asarray(classic.dataobj) + np.arange(SLICES)
    np.testing.assert_allclose(result.dataobj, expected)
    assert series.tags["EchoTime"] == "2.5"


def test_enhanced_file_of_two_echoes_is_two_volumes(tmp_path: Path) -> None:
    series, _ = find_series(save(tmp_path, [enhanced(echoes=(2, 5))]))
    assert [(s.tags["EchoTime"], s.frames) for s in series] == [("2.0", SLICES), ("5.0", SLICES)]
    first, second = (np.asarray(read_series(s).dataobj) for s in series)
    slices = np.arange(SLICES)
    np.testing.assert_allclose((first - slices) / 2, (second - slices) / 5, rtol=1e-6)


@pytest.mark.parametrize(
    ("keyword", "values"),
    [
        ("EchoTime", (2, 5)),
        ("TemporalPositionIdentifier", (1, 2)),
        ("ImageType", (["ORIGINAL", "PRIMARY", "M"], ["ORIGINAL", "PRIMARY", "P"])),
        ("DiffusionBValue", (0.0, 1000.0)),
    ],
)
def test_series_of_two_volumes_is_split(tmp_path: Path, keyword: str, values: Any) -> None:
    images = []
    for k, value in enumerate(values):
        images += [image(n, SOPInstanceUID=f"1.2.3.{k}.{n}", **{keyword: value}) for n in range(4)]
    series, _ = find_series(save(tmp_path, images))
    assert [s.frames for s in series] == [4, 4]
    assert [read_series(s).shape for s in series] == [(COLUMNS, ROWS, 4)] * 2


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


def test_pet_is_suv_by_body_weight(tmp_path: Path) -> None:
    """370 MBq at 09:30 are 253.31 MBq at 10:30; 70 kg: 2.7634e-4 g/ml for 1 Bq/ml."""
    series = only(save(tmp_path, pet()))
    voxels = np.asarray(read_series(series).dataobj)
    left = 370e6 * 0.5 ** (3600 / 6586.2)
    np.testing.assert_allclose(voxels[:, :, 1].T, pixels(seed=1) * 2.5 * 70000 / left, rtol=1e-6)
    assert unit_of(series) == "SUV g/ml"
    assert series.tags["Radiopharmaceutical"] == "FDG"
    assert suv_factor(pet()) == pytest.approx(2.7634e-4, rel=1e-4)


START = 70000 / (370e6 * 0.5 ** (3600 / 6586.2))
ADMIN = 70000 / 370e6


@pytest.mark.parametrize(
    ("tags", "factor"),
    [
        ({"DecayCorrection": "ADMIN"}, ADMIN),
        ({"DecayCorrection": "ADMIN", "dose_RadionuclideHalfLife": None}, ADMIN),
        ({"Units": "GML", "PatientWeight": None}, 1.0),
        ({"dose_RadiopharmaceuticalStartDateTime": "20200102093000.00+0100"}, START),
        # written anew at 15:00: the acquisition says when the scan was
        ({"SeriesTime": "150000"}, START),
        # a bed position acquired later is corrected to the start of the series, too
        ({"AcquisitionTime": "104500"}, START),
        ({"SeriesTime": None}, START),
        ({"AcquisitionTime": None}, START),
        # over midnight
        (
            {
                "SeriesTime": "003000",
                "AcquisitionTime": "003000",
                "dose_RadiopharmaceuticalStartTime": "233000",
            },
            START,
        ),
    ],
)
def test_suv_factor(tags: dict[str, Any], factor: float) -> None:
    assert suv_factor(pet(**tags)) == pytest.approx(factor, rel=1e-6)


def test_philips_counts_take_philips_factor() -> None:
    images = pet(Units="CNTS")
    for dataset in images:
        block = dataset.private_block(0x7053, "Philips PET Private Group", create=True)
        block.add_new(0x00, "DS", "0.00125")
    assert suv_factor(images) == 0.00125


@pytest.mark.parametrize(
    ("tags", "named"),
    [
        ({"Units": None}, r"Units \(0054,1001\)"),
        ({"Units": "PROPCNTS"}, r"Units \(0054,1001\)"),
        ({"Units": "CNTS"}, r"\(7053,1000\)"),
        ({"Units": "GML", "SUVType": "LBM"}, r"SUVType \(0054,1006\)"),
        ({"PatientWeight": None}, r"PatientWeight \(0010,1030\)"),
        ({"PatientWeight": 0}, r"PatientWeight \(0010,1030\): 0"),
        ({"DecayCorrection": None}, r"DecayCorrection \(0054,1102\)"),
        ({"DecayCorrection": "NONE"}, r"DecayCorrection \(0054,1102\)"),
        ({"CorrectedImage": ["DECY"]}, r"CorrectedImage \(0028,0051\) lacks ATTN"),
        (
            {"RadiopharmaceuticalInformationSequence": None},
            r"RadiopharmaceuticalInformationSequence \(0054,0016\)",
        ),
        ({"dose_RadionuclideTotalDose": None}, r"RadionuclideTotalDose \(0018,1074\)"),
        ({"dose_RadionuclideTotalDose": 370}, "expected becquerel"),
        ({"dose_RadionuclideHalfLife": None}, r"RadionuclideHalfLife \(0018,1075\)"),
        (
            {"dose_RadiopharmaceuticalStartTime": None},
            r"RadiopharmaceuticalStartTime \(0018,1072\)",
        ),
        ({"SeriesTime": None, "AcquisitionTime": None}, r"AcquisitionTime \(0008,0032\)"),
        ({"dose_RadiopharmaceuticalStartDateTime": "20190102093000"}, "8761.0 h before the scan"),
    ],
)
def test_suv_names_the_tag_it_lacks(tmp_path: Path, tags: dict[str, Any], named: str) -> None:
    folder = save(tmp_path, pet(**tags))
    with pytest.raises(UserError, match=named):
        read_series(only(folder))


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
