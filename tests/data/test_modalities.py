"""Which file is which modality: names in BIDS, of scanners and data sets; the best of several."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from any2all_core import Grid
from any2all_core.testing import phantom
from any2all_data.dicom_headers import GE_RAW_DATA
from any2all_data.kinds import kind_of, stack_format
from any2all_data.ranking import choose, doubts, open_questions, weighed, why_later
from any2all_data.rules import modality_of, read_rules
from any2all_data.sources import file_source, find_sources
from any2all_data.stacking import Preparation, prepared
from builders.dicom import image, save, stack
from builders.nifti import write_head

RULES = read_rules()
EXAMPLES = Path(__file__).with_name("bids_examples.tsv")


def test_every_name_of_bids_examples_is_what_the_grammar_says() -> None:
    """Names of the repository bids-standard/bids-examples, and beside them, by the specification,
    the modality; "derived" where the file is a derivative; nothing where it is none."""
    lines = EXAMPLES.read_text().splitlines()
    wrong = {}
    for line in lines:
        name, right = line.split("\t")
        subject = next(p for p in name.split("/") if p.startswith(("sub-", "tpl-")))
        source = file_source(Path(name), subject, "")
        found = modality_of(source.tags, RULES)
        said = f"{found} derived" if found and source.tags.get("derived") else found
        if said != right:
            wrong[name] = said
    assert len(lines) > 100
    assert wrong == {}


def test_series_as_five_vendors_name_them() -> None:
    """MR series by their description alone; what a radiographer would say each is."""
    lines = EXAMPLES.with_name("series_names.tsv").read_text().splitlines()
    wrong = {}
    for line in lines:
        _, name, right = line.split("\t")
        found = modality_of({"Modality": "MR", "text": name}, RULES)
        if found != right:
            wrong[name] = found
    assert len(lines) > 100
    assert wrong == {}


@pytest.mark.parametrize(
    ("name", "modality"),
    {
        "BraTS-GLI-00001-000/BraTS-GLI-00001-000-t1n": "T1",
        "BraTS-GLI-00001-000/BraTS-GLI-00001-000-t1c": "T1Gd",
        "BraTS-GLI-00001-000/BraTS-GLI-00001-000-t2w": "T2",
        "BraTS-GLI-00001-000/BraTS-GLI-00001-000-t2f": "FLAIR",
        "BraTS-GLI-00001-000/BraTS-GLI-00001-000-seg": "",
        "BraTS20_Training_001/BraTS20_Training_001_t1": "T1",
        "BraTS20_Training_001/BraTS20_Training_001_t1ce": "T1Gd",
        "BraTS20_Training_001/BraTS20_Training_001_flair": "FLAIR",
        "1BA001/mr": "T1",
        "1BA001/ct": "CT",
        "1BA001/cbct": "CBCT",
        "1BA001/mask": "",
        "002_S_0295/ADNI_002_S_0295_MR_MPR__GradWarp__B1_Correction__N3_S13408_I45107": "T1",
        "002_S_0295/ADNI_002_S_0295_MR_MP-RAGE__br_raw_20060418_1_S13408_I13722": "T1",
        "002_S_0295/ADNI_002_S_0295_MR_Sagittal_3D_FLAIR__br_raw_S1_I1": "FLAIR",
        "002_S_0295/ADNI_002_S_0295_MR_Axial_T2_STAR__br_raw_S1_I1": "T2star",
        "002_S_0295/ADNI_002_S_0295_PT_AV45_Coreg,_Avg__br_raw_S1_I1": "PET",
        "IXI002/IXI002-Guys-0828-T1": "T1",
        "IXI002/IXI002-Guys-0828-PD": "PD",
        "IXI002/IXI002-Guys-0828-MRA": "",
        "OAS1_0001_MR1/OAS1_0001_MR1_mpr-1_anon": "T1",
        "anat2/sub-OAS30001_ses-d0129_acq-TSE_T2w": "T2",
        "pet1/sub-OAS30001_ses-d2430_acq-AV45_pet": "PET",
        "CTRL01/CTRL01_T1": "T1",
        "CTRL01/CTRL01_petra": "",
        "x/petra": "",
        "CT_007/CT_007_T1": "T1",
        "a/T2_to_T1": "T2",
        "a/flair_reg2T1": "FLAIR",
        "a/PET_in_T1space": "PET",
        "a/T1POST": "T1Gd",
        "a/T1_T2_FLAIR": "",
    }.items(),
)
def test_names_of_data_sets(name: str, modality: str) -> None:
    path = Path(f"{name}.nii.gz")
    source = file_source(path, path.parent.name, "")
    assert modality_of(source.tags, RULES) == modality


def test_sidecars_say_what_names_do_not(tmp_path: Path) -> None:
    """Times in s become ms, a protocol's name in the file's gives way to the series description,
    and in BIDS the JSON of a folder above holds for all that it names."""
    write_head(
        tmp_path / "plain/a/MS_BRAIN_T1_T2_FLAIR_5.nii.gz",
        SeriesDescription="Ax T2 FSE",
        EchoTime=0.102,
        ImageType=["ORIGINAL", "PRIMARY", "OTHER"],
    )
    write_head(tmp_path / "plain/a/t1ce.nii.gz", SeriesDescription="Sag 3D BRAVO")
    given, t2 = find_sources(tmp_path / "plain")[0][::-1]
    assert (modality_of(t2.tags, RULES), modality_of(given.tags, RULES)) == ("T2", "T1Gd")
    assert t2.tags["EchoTime"] == "102"
    assert t2.tags["ImageType"] == "ORIGINAL\\PRIMARY\\OTHER"
    assert t2.grid is not None
    assert t2.grid.shape == (32, 32, 6)
    assert t2.grid.spacing == (1.5, 1.5, 4.0)
    bids = tmp_path / "bids"
    write_head(bids / "sub-1/anat/sub-1_acq-x_T1w.nii.gz", ContrastBolusIngredient="GADOLINIUM")
    write_head(bids / "sub-1/anat/sub-1_T1w.nii.gz")
    (bids / "T1w.json").write_text('{"EchoTime": 0.003, "RepetitionTime": 2.3}')
    (bids / "sub-1/acq-x_T1w.json").write_text('{"EchoTime": 0.004}')
    (bids / "sub-1/anat/sub-1_task-rest_T1w.json").write_text('{"EchoTime": 9}')
    plain, agent = sorted(find_sources(bids)[0], key=lambda s: s.tags.get("acq", ""))
    assert (plain.tags["EchoTime"], agent.tags["EchoTime"]) == ("3", "4")
    assert (modality_of(plain.tags, RULES), modality_of(agent.tags, RULES)) == ("T1", "T1Gd")
    assert plain.tags["RepetitionTime"] == "2300"


def test_protocol_names_count_only_without_a_description(tmp_path: Path) -> None:
    protocol = "MS BRAIN T1 T2 FLAIR"
    series_of: dict[str, dict[str, Any]] = {
        "Sag 3D BRAVO": {},
        "Ax T2 FSE": {},
        "": {"ScanningSequence": "SE", "EchoTime": 100, "RepetitionTime": 4000},
    }
    for n, (description, told) in enumerate(series_of.items()):
        series = stack(uid=f"1.2.{n}", SeriesDescription=description, ProtocolName=protocol, **told)
        save(tmp_path / str(n), series)
    save(tmp_path / "3", stack(uid="1.3", SeriesDescription=None, ProtocolName="t1_mprage"))
    sources, _ = find_sources(tmp_path)
    assert [modality_of(s.tags, RULES) for s in sources] == ["T1", "T2", "T2", "T1"]


def test_times_and_contrast_tell_what_a_name_does_not() -> None:
    nameless = {"Modality": "MR", "text": "Sag"}
    for tags, right in (
        ({"AcquisitionContrast": "FLUID_ATTENUATED", "EchoTime": "194"}, "FLAIR"),
        ({"AcquisitionContrast": "T1"}, "T1"),
        ({"AcquisitionContrast": "T1", "ContrastBolusAgent": "Gadovist"}, "T1Gd"),
        ({"AcquisitionContrast": "T1", "ContrastBolusAgent": "NONE"}, "T1"),
        ({"InversionTime": "900", "EchoTime": "3"}, "T1"),
        ({"ScanningSequence": "SE", "EchoTime": "12", "RepetitionTime": "500"}, "T1"),
        ({"ScanningSequence": "SE\\EP", "EchoTime": "80", "RepetitionTime": "5000"}, ""),
        ({"text": "PD T2 TSE", "EchoTime": "11"}, "PD"),
        ({"text": "PD T2 TSE", "EchoTime": "101"}, "T2"),
        ({"text": "t2_tirm_cor", "InversionTime": "220"}, ""),
        ({"text": "T1 T2 FLAIR", "InversionTime": "2500", "EchoTime": "120"}, "FLAIR"),
        ({"AcquisitionContrast": "UNKNOWN"}, ""),
    ):
        assert modality_of(nameless | tags, RULES) == right, tags


def ranked(tmp_path: Path, first: dict[str, Any], other: dict[str, Any]) -> str:
    """Why the series with the tags ``other`` comes after that with ``first``; files say nothing."""
    save(tmp_path / "a", stack(uid="1.4", SeriesNumber=4, **other))
    save(tmp_path / "b", stack(uid="1.5", SeriesNumber=5, **first))
    sources, damaged = find_sources(tmp_path)
    assert not damaged
    (name,) = {modality_of(source.tags, RULES) for source in sources}
    found = choose(sources, RULES, (name,), name)[name]
    assert [source.tags["SeriesNumber"] for source in found] == ["5", "4"]
    return why_later(found[0], found[1], kind_of(name), None)


MAGNITUDE, REAL = ["ORIGINAL", "PRIMARY", "M_FFE", "M"], ["ORIGINAL", "PRIMARY", "R_FFE", "R"]
CT = {"modality": "CT", "RescaleSlope": 1, "RescaleIntercept": 0}


@pytest.mark.parametrize(
    ("first", "other", "why"),
    [
        ({"ImageType": MAGNITUDE}, {"ImageType": REAL}, "magnitude"),
        (
            {"ImageType": ["DERIVED", "PRIMARY", "DIXON", "WATER"]},
            {"ImageType": ["DERIVED", "PRIMARY", "DIXON", "FAT"]},
            "Dixon",
        ),
        (
            {"SeriesDescription": "t1_mp2rage_UNI"},
            {"SeriesDescription": "t1_mp2rage_INV2"},
            "inversion",
        ),
        ({}, {"ImageType": ["DERIVED", "SECONDARY", "MPR"]}, "derived"),
        ({"EchoTime": 3}, {"EchoTime": 100}, "times"),
        ({"BodyPartExamined": "BRAIN"}, {"BodyPartExamined": "CSPINE"}, "another part"),
        ({}, {"SeriesDescription": "t1 tse orbita", "BodyPartExamined": "HEAD"}, "another part"),
        ({"EchoTime": 3, "EchoNumbers": 1}, {"EchoTime": 6, "EchoNumbers": 2}, "another echo"),
        ({**CT, "ConvolutionKernel": "Br40f"}, {**CT, "ConvolutionKernel": "Hr60f"}, "kernel"),
        ({**CT, "ConvolutionKernel": "STANDARD"}, {**CT, "ConvolutionKernel": "BONE"}, "kernel"),
        ({**CT}, {**CT, "ContrastBolusAgent": "Ultravist"}, "contrast"),
        ({"SliceThickness": 3}, {"SliceThickness": 1}, "lacks slices"),
        ({"count": 5}, {"count": 4}, "fewer slices"),
    ],
)
def test_tags_rank_the_series_of_one_modality(
    tmp_path: Path, first: dict[str, Any], other: dict[str, Any], why: str
) -> None:
    assert why in ranked(tmp_path, first, other)


def test_parts_of_a_complex_image_in_one_series(tmp_path: Path) -> None:
    """Philips' magnitude and real part by ImageType, GE's by its private element."""
    philips = [
        image(k, uid="1.2.7", ImageType=kind, SOPInstanceUID=f"1.2.7.{k}.{n}")
        for k in range(4)
        for n, kind in enumerate((REAL, MAGNITUDE))
    ]
    ge = []
    for k in range(4):
        for kind in (3, 2, 0, 1):
            one = image(k, uid="1.2.8", SOPInstanceUID=f"1.2.8.{k}.{kind}")
            one.add_new(0x00430010, "LO", "GEMS_PARM_01")
            one.add_new(GE_RAW_DATA, "SS", kind)
            ge.append(one)
    for name, images in {"philips": philips, "ge": ge}.items():
        sources, damaged = find_sources(save(tmp_path / name, images))
        assert not damaged
        found = choose(sources, RULES, ("T1",), "T1")["T1"]
        assert len(found) == 2
        assert "\\M" in found[0].tags["ImageType"] or found[0].tags["RawDataType"] == "0"
        assert why_later(found[0], found[1], kind_of("T1"), None) == "it is not the magnitude"
        assert found[0].read(kind_of("T1")).image.shape[2] == 4


def test_a_series_of_every_third_slice_is_said(tmp_path: Path) -> None:
    def told(name: str, step: int, **tags: Any) -> list[str]:
        slices = [image(k, uid="1.2.6", **tags) for k in range(0, 4 * step, step)]
        (source,), _ = find_sources(save(tmp_path / name, slices))
        return doubts(source, kind_of("T1"))

    (said,) = told("third", 3, SliceThickness=3)
    assert said.startswith("its slices lie 9 mm apart but are 3 mm thick and its InstanceNumber")
    assert told("whole", 1, SliceThickness=3) == []
    assert told("with gaps, as 2D series have", 1, SliceThickness=2.5) == []
    assert told("thickness not said", 3) == []
    (said,) = told("numbers not said", 3, SliceThickness=3, InstanceNumber=None)
    assert "InstanceNumber" not in said


def test_pet_of_two_tracers_is_undecided(tmp_path: Path) -> None:
    for label, depth in {"FDG": 6, "AV45": 8}.items():
        write_head(tmp_path / f"sub-1/pet/sub-1_trc-{label}_pet.nii.gz", depth=depth)
    found = choose(find_sources(tmp_path)[0], RULES, ("PET",), "T1")["PET"]
    (said,) = open_questions(weighed(found, kind_of("PET"), None))
    assert "its tracer is another one" in said


@pytest.mark.slow
@pytest.mark.parametrize("register", [False, True])
def test_the_next_is_used_where_the_first_does_not_register(tmp_path: Path, register: bool) -> None:
    """Because it lies elsewhere, or because its registration is doubtful: it is noise."""
    affine, shifted = np.diag([-1.5, -1.5, 4, 1]), np.diag([-1.5, -1.5, 4, 1])
    shifted[0, 3] = 2
    fine = np.diag([-1.2, -1.2, 3.2, 1.0])
    fine[:3, 3] = 0 if register else 5000
    noise = np.random.default_rng(0).random((32, 32, 24), np.float32)
    images = {"T1": (phantom(depth=24), affine), "FLAIR_a": (noise, fine)}
    images["FLAIR_b"] = (phantom(depth=24), shifted)
    (tmp_path / "p").mkdir()
    for name, (values, place) in images.items():
        nib.save(nib.Nifti1Image(values, place), tmp_path / f"p/{name}.nii.gz")
    chosen = choose(find_sources(tmp_path)[0], RULES, ("T1", "FLAIR"), "T1")
    assert chosen["FLAIR"][0].files[0].name == "FLAIR_a.nii.gz"  # finer
    settings = stack_format(("T1", "FLAIR"), (32, 32), Grid())
    _, entry = prepared(chosen, settings, Preparation(register=register))
    assert entry.present == ["T1", "FLAIR"]
    (why,) = [why for _, why in entry.choices["FLAIR"] if why != "used"]
    assert ("its registration is doubtful" if register else "it does not overlap") in why
    assert f"FLAIR is another series, the first: {why}" in entry.notes
