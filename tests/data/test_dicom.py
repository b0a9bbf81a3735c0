"""DICOM trees: what becomes a volume, where it lies, in what unit; and what is refused, by name."""

from __future__ import annotations

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
    only,
    pet,
    pixels,
    refusal,
    save,
    stack,
)
from builders.series import SYNTAXES, enhanced


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
