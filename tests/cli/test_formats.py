"""What images are: their format in files of before and of now, and kinds that a user adds."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import any2all_demo
import nibabel as nib
import numpy as np
import pytest
import torch
from any2all_core import DiffusionPrior, Grid, ModalityFormat, PriorSettings, Range, StackFormat
from any2all_core.examples import InMemory
from any2all_core.loop import TrainingData, TrainingRun
from any2all_core.network import build_prior
from any2all_core.prior_settings import read_settings, write_settings
from any2all_core.testing import TINY_RECIPE, phantom
from any2all_core.training import train
from any2all_data.bids import bids_tags
from any2all_data.dicom import find_series, read_series
from any2all_data.dicom_derived import Derived, write_derived
from any2all_data.kinds import kind_of, read_kinds, shipped_kinds, stack_format
from any2all_data.nifti import load_nifti
from any2all_data.rules import modality_of, read_rules
from any2all_data.sources import file_source
from any2all_data.store import CohortStore
from any2all_operators import UserError
from builders.command_line import Run
from builders.dicom import save, stack
from builders.nifti import load

KINDS = """
[ADC]
unit = "1e-6 mm²/s"
scaling = [0, 4000]
plausible = [300, 6000]

[T1map]
unit = "ms"
scaling = "group"

[FDG]
like = "PET"

[[FDG.match]]
words = '\\bfdg\\b'

[[FDG.match]]
trc = 'FDG'
"""
FORMAT_1: dict[str, Any] = {
    "format": 1,
    "modalities": ["T1", "CT"],
    "image_size": [32, 32],
    "normalisation": {
        "T1": {"method": "clip(volume / scale, 0, 1), scale per patient", "unit": "arbitrary"},
        "CT": {"low": -1000.0, "high": 1500.0, "fitted_on": "the training group", "unit": "HU"},
    },
    "training": {
        "grid": {"spacing": [2.0, 2.0, 3.0], "reference": "T1", "bias_correct": True},
        "virtual": True,
        "steps": 6,
        "missing": {"T1": {"CT": [20.0, 19.0]}},
    },
}
IMAGES = StackFormat(
    (ModalityFormat("T1"), ModalityFormat("CT", "HU", "group", Range(-1000.0, 1500.0))),
    (32, 32),
    Grid((2.0, 2.0, 3.0), "T1", True),
)


@pytest.fixture
def kinds_file(tmp_path: Path) -> Path:
    path = tmp_path / "kinds.toml"
    path.write_text(KINDS)
    return path


def test_a_prior_of_format_1_is_read_as_before_and_kept_in_format_2(tmp_path: Path) -> None:
    torch.manual_seed(0)
    prior = build_prior(TINY_RECIPE, PriorSettings(IMAGES, training={"steps": 6}))
    prior.save(tmp_path)
    assert json.loads((tmp_path / "prior.json").read_text())["format"] == 2
    (tmp_path / "prior.json").write_text(json.dumps(FORMAT_1))
    old = DiffusionPrior.load(tmp_path, "float32")
    assert old.format == IMAGES
    assert (old.settings.virtual, old.settings.steps) == (True, 6)
    assert old.settings.nearness == {"T1": {"CT": (20.0, 19.0)}}
    x, t = torch.rand(1, 2, 32, 32), torch.tensor([500])
    assert torch.equal(old.predict(x, t), prior.eval().predict(x, t))
    write_settings(old.settings, tmp_path)
    assert read_settings(tmp_path) == old.settings


@pytest.mark.parametrize("name", ["lgg", "virtual"])
def test_shipped_priors_are_read_and_written_without_a_change(name: str, tmp_path: Path) -> None:
    bundled = getattr(any2all_demo, name)
    told = json.loads((bundled.folder / "prior.json").read_text())
    settings = read_settings(bundled.folder)
    assert list(settings.modalities) == told["modalities"]
    for modality in settings.format.modalities:
        kept = told["normalisation"][modality.name]
        limits = modality.range and (modality.range.low, modality.range.high)
        assert limits == ((kept["low"], kept["high"]) if "low" in kept else None)
        assert modality.unit == kept["unit"]
    write_settings(settings, tmp_path)
    assert read_settings(tmp_path) == settings


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": 3}, "not a prior of format"),
        ({"format": 2, "images": {}}, "damaged"),
        ({"image_size": "wide"}, "damaged"),
        ({"normalisation": {"CT": {"low": 0.0}}}, "damaged"),
    ],
)
def test_a_damaged_prior_is_refused_in_one_line(
    change: dict[str, Any], said: str, tmp_path: Path
) -> None:
    (tmp_path / "prior.json").write_text(json.dumps(FORMAT_1 | change))
    with pytest.raises(UserError, match=said) as told:
        read_settings(tmp_path)
    assert "\n" not in str(told.value)
    assert str(tmp_path) in str(told.value)


def test_a_run_that_kept_its_normalisation_goes_on(tmp_path: Path) -> None:
    x = torch.rand(6, 2, 32, 32)
    settings = PriorSettings(IMAGES, training={"virtual": True})
    data, run = TrainingData(InMemory(x), x[:2]), TrainingRun(tmp_path, precision="float32")
    train(data, settings, TINY_RECIPE, run)
    path = tmp_path / "checkpoint.pt"
    state = torch.load(path, weights_only=True)
    del state["identity"]["ranges"]
    state["identity"]["normalisation"] = FORMAT_1["normalisation"]
    state["training"]["grid"] = FORMAT_1["training"]["grid"]
    torch.save(state, path)
    train(data, settings, TINY_RECIPE, replace(run, resume=True))
    assert read_settings(tmp_path).format == IMAGES
    assert "grid" not in read_settings(tmp_path).training
    other = StackFormat((IMAGES["T1"], ModalityFormat("CT")), (32, 32))
    with pytest.raises(UserError, match="ranges"):
        train(data, PriorSettings(other), TINY_RECIPE, TrainingRun(tmp_path, resume=True))


def test_a_cohort_of_before_kinds_is_read(tmp_path: Path) -> None:
    made = stack_format(("T1", "CT"), (8, 6), Grid((2.0, 2.0, 3.0)))
    CohortStore.create(str(tmp_path / "c"), made)
    path = tmp_path / "c/zarr.json"
    kept = json.loads(path.read_text())
    del kept["attributes"]["kinds"]
    kept["attributes"]["normalisation"] = {"CT": FORMAT_1["normalisation"]["CT"]}
    path.write_text(json.dumps(kept))
    store = CohortStore.create(str(tmp_path / "c"), made)
    assert store.format.ranges == {"CT": Range(-1000.0, 1500.0)}
    assert store.format["CT"].scaling == "group"


def test_a_kind_takes_what_it_leaves_out_from_another(kinds_file: Path, tmp_path: Path) -> None:
    own = read_kinds(kinds_file)
    assert (own["FDG"].unit, own["FDG"].values) == ("SUV g/ml", "suv")
    assert own["FDG"].threshold == kind_of("PET").threshold
    assert (own["ADC"].range, own["ADC"].threshold) == ((0.0, 4000.0), 0.04)
    images = stack_format(("T1", "ADC", "FDG"), (32, 32), Grid(), own)
    assert [m.kind for m in images.modalities] == [None, own["ADC"], own["FDG"]]
    write_settings(PriorSettings(images), tmp_path)
    assert read_settings(tmp_path).format == images


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("[ADC", "not readable as TOML"),
        ("", "no kind in it"),
        ("ADC = 3", "expected a table"),
        ('[ADC]\nunits = "s"', "units is unknown; there are"),
        ('[ADC]\nunit = "s"', 'expected "patient" for the unit'),
        ('[CT]\nlike = "CT"\nscaling = "patient"', 'expected "patient" for the unit'),
        ('[ADC]\nunit = "s"\nscaling = "whole"', "scaling 'whole'; expected patient, group"),
        ('[ADC]\nunit = "s"\nscaling = [3]', "expected two numbers"),
        ('[ADC]\nunit = "s"\nscaling = [3, 1]', "the smaller one first"),
        ('[ADC]\nlike = "SPECT"', "like 'SPECT' is unknown"),
        ('[ADC]\ndicom = "NM"', "dicom 'NM'; expected MR, CT, PT"),
        ("[ADC]\nthreshold = -1", "a number of at least 0"),
        ("[ADC]\nvoxels = 0.5", "a whole number above 0"),
        ("[[ADC.match]]\nwords = '('", "no regular expression"),
        ('["A/B"]\ndicom = "MR"', "expected a name of letters"),
    ],
)
def test_a_wrong_table_gets_one_line(table: str, said: str, tmp_path: Path, any2all: Run) -> None:
    (tmp_path / "k.toml").write_text(table)
    done = any2all("prepare", "nowhere", "c", "--kinds", "k.toml")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert "--kinds k.toml" in done.stderr
    assert said in done.stderr


def test_files_of_ones_own_kinds_are_told_apart(kinds_file: Path, tmp_path: Path) -> None:
    rules = read_rules(own=read_kinds(kinds_file).values())
    for tags, right in [
        ({"Modality": "MR", "text": "ep2d_diff_b1000_ADC"}, "ADC"),
        (
            {"Modality": "MR", "text": "T1map", "ImageType": "DERIVED\\PRIMARY\\T1 MAP"},
            "T1map",
        ),
        ({"Modality": "PT", "text": "FDG brain"}, "FDG"),
        ({"Modality": "CT", "text": "CT AC FDG"}, "CT"),
        ({"Modality": "PT", "text": "brain"}, "PET"),
        ({"Modality": "MR", "text": "ADC mask"}, ""),
        ({"Modality": "MR", "text": "t1_mprage"}, "T1"),
        (bids_tags(Path("sub-1/dwi/sub-1_ADC.nii.gz")), "ADC"),
        (bids_tags(Path("sub-1/anat/sub-1_T1map.nii.gz")), "T1map"),
        (bids_tags(Path("sub-1/pet/sub-1_trc-18FFDG_pet.nii.gz")), "FDG"),
        (file_source(Path("p/ADC.nii.gz"), "p", "").tags, "ADC"),
        (file_source(Path("p/ADC_std.nii.gz"), "p", "").tags, ""),
    ]:
        assert modality_of(tags or {}, rules) == right, tags
    assert modality_of({"Modality": "MR", "text": "diff ADC"}, read_rules()) == ""


def test_values_that_a_kind_can_not_have_are_refused(kinds_file: Path, tmp_path: Path) -> None:
    adc, path = read_kinds(kinds_file)["ADC"], tmp_path / "ADC.nii.gz"
    nib.save(nib.Nifti1Image(6 * phantom(), np.eye(4)), path)
    load_nifti(path, "it", adc)
    nib.save(nib.Nifti1Image(6e-6 * phantom(), np.eye(4)), path)
    with pytest.raises(UserError, match="expected 300 to 6000 1e-6 mm²/s for ADC"):
        load_nifti(path, "it", adc)


def test_mr_with_a_unit_goes_to_dicom_and_back(kinds_file: Path, tmp_path: Path) -> None:
    adc = read_kinds(kinds_file)["ADC"]
    (reference,), _ = find_series(save(tmp_path / "a", stack()))
    values = np.linspace(-50, 3000, 5 * 8 * 8, dtype=np.float32).reshape(5, 8, 8)
    place = np.diag([-2.0, -2.0, 3.0, 1.0])
    image = Derived(adc, values, place, Range(0.0, 4000.0), "ADC", "drawn")
    write_derived(tmp_path / "out", image, reference, 9001)
    (series,), _ = find_series(tmp_path / "out")
    again = np.sort(read_series(series).get_fdata(), axis=None)
    np.testing.assert_allclose(again, np.sort(values, axis=None), atol=4050 / 65535)


def test_the_table_says_what_the_code_takes_where_nothing_is_said() -> None:
    assert shipped_kinds()["MR"] == type(kind_of("T1"))("MR")
    assert kind_of("ASL").name == "ASL"
    physical = [name for name, kind in shipped_kinds().items() if kind.physical]
    assert physical == ["CT", "CBCT", "PET"]


def test_adc_from_files_to_a_completed_patient(
    any2all: Run, kinds_file: Path, tmp_path: Path
) -> None:
    """prepare --kinds, a few steps of train, and sample, which know the kind without its file."""
    affine = np.diag([-1.5, -1.5, 4.0, 1.0])
    for k in range(3):
        for name, factor in (("T1", 1.0), ("ADC", 6.0)):
            folder = tmp_path / f"scans/p{k}"
            folder.mkdir(parents=True, exist_ok=True)
            image = nib.Nifti1Image(factor * phantom(seed=k), affine)
            nib.save(image, folder / f"{name}.nii.gz")
    small = ("--spacing", "native", "--size", 32, "--workers", 1, "--split", "train")
    done = any2all("prepare", "scans", "c", "--kinds", kinds_file, *small)
    assert done.returncode == 0, done.stderr
    assert "--kinds: no image of T1map, FDG was found" in done.stderr
    kinds_file.unlink()
    again = any2all("prepare", "scans", "c", *small)
    assert "3 unchanged" in again.stderr
    store = CohortStore.open("c")
    assert store.format.names == ("T1", "ADC")
    assert store.format.ranges == {"ADC": Range(0.0, 4000.0)}
    recipe = ("channels=8+16", "blocks=1", "norm_groups=2", "steps=4", "batch_size=2")
    few = [part for change in recipe for part in ("--set", change)]
    done = any2all("train", "--data", "c", "--output", "run", *few)
    assert done.returncode == 0, done.stderr
    (tmp_path / "new").mkdir()
    t1 = tmp_path / "scans/p0/T1.nii.gz"
    (tmp_path / "new/T1.nii.gz").write_bytes(t1.read_bytes())
    sample = ("sample", "--prior", "run", "--set", "steps=2", "--modalities")
    done = any2all(*sample, "T1=clean", "--input", "new", "--output", "out")
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "out/report.json").read_text())
    assert report["modalities"]["ADC"]["unit"] == "1e-6 mm²/s"
    drawn = load(tmp_path / "out/ADC.nii.gz").get_fdata()
    assert 100 < drawn.max() <= 4000
    wrong = nib.Nifti1Image(phantom() / 1e6, affine)
    nib.save(wrong, tmp_path / "new/ADC.nii.gz")
    done = any2all(*sample, "T1=clean,ADC=clean", "--input", "new", "--output", "out2")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert "for ADC: check its unit" in done.stderr
