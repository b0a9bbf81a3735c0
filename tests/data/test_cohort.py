"""From folders of scans to a cohort, through real processes that may die."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from any2all_core import Grid, Range
from any2all_core.testing import phantom
from any2all_data.cohort_entry import Entry
from any2all_data.cohort_slices import CohortSlices
from any2all_data.kinds import stack_format
from any2all_data.ranking import choose
from any2all_data.rules import modality_of, read_rules
from any2all_data.sources import find_sources
from any2all_data.store import CohortStore
from any2all_operators import UserError


def entry(split: str = "train", present: tuple[str, ...] = ("T1", "CT")) -> Entry:
    return Entry(split=split, affine=np.eye(4).tolist(), present=list(present), scale={"T1": 4.0})  # type: ignore[arg-type]


SETTINGS = stack_format(("T1", "CT"), (8, 6), Grid())


def test_a_patient_is_whole_or_not_there(tmp_path: Path) -> None:
    store = CohortStore.create(str(tmp_path / "c"), SETTINGS)
    images = np.random.default_rng(0).normal(size=(5, 2, 8, 6)).astype(np.float32)
    store.write("p-1", images, entry())
    store.write("p-2", images, entry())
    with pytest.MonkeyPatch.context() as patch:  # all that is said of a patient, in one write
        written: list[str] = []
        replace = Path.replace
        patch.setattr(
            Path,
            "replace",
            lambda a, b: written.append(str(b)) or replace(a, b),  # type: ignore[func-returns-value]
        )
        store.update("p-1", entry())
        assert written == [str(tmp_path / "c/p-1/zarr.json")]
    kept = tmp_path / "c/p-2/zarr.json"
    kept.write_text(json.dumps(json.loads(kept.read_text()) | {"attributes": {}}))  # cut short
    (tmp_path / "c/zarr.0123.partial").write_text("{")  # another write was cut short
    again = CohortStore.open(str(tmp_path / "c"))
    assert list(again.patients()) == ["p-1"]
    assert again.entry("p-2") is None
    assert again.entry("p-3") is None
    assert np.array_equal(again.images("p-1"), images)
    assert (tmp_path / "c/p-1/images/c/4/0/0/0").exists()  # a chunk a slice
    assert again.patients()["p-1"] == entry()


def test_settings_are_those_of_the_cohort(tmp_path: Path) -> None:
    url = str(tmp_path / "c")
    CohortStore.create(url, SETTINGS)
    assert CohortStore.create(url, SETTINGS).format == SETTINGS
    with pytest.raises(UserError, match=r"this cohort has size \(8, 6\), not \(8, 8\)"):
        CohortStore.create(url, stack_format(("T1", "CT"), (8, 8)))
    with pytest.raises(UserError, match="there is no cohort"):
        CohortStore.open(str(tmp_path / "nowhere"))


def test_constants_come_from_the_training_group_alone(tmp_path: Path) -> None:
    store = CohortStore.create(str(tmp_path / "c"), SETTINGS)
    images = np.zeros((4, 2, 8, 6), np.float32)
    images[:, 1] = np.linspace(-1000, 1500, 4 * 48).reshape(4, 8, 6)
    store.write("p-1", images, entry())
    store.write("p-2", 10 * images, entry("test"))
    store.write("p-3", 10 * images, entry("train", ("T1",)))
    fitted = store.fit()["CT"]
    assert fitted.low == pytest.approx(-1000, abs=15)
    assert fitted.high == pytest.approx(1500, abs=15)
    kept = CohortStore.open(str(tmp_path / "c")).format
    assert kept["CT"].unit == "HU"
    assert kept["CT"].range == fitted
    assert kept["T1"].range is None
    values = np.array([-900.0, 0.0, 1400.0], np.float32)
    assert np.allclose(fitted.physical(fitted.normalise(values)), values, atol=0.01)
    assert Range(0, 4).normalise(np.array([8.0], np.float32)) == 1


def test_series_are_mapped_by_rules(tmp_path: Path) -> None:
    rules = read_rules()
    expected = {
        "t1_mprage_sag": "T1",
        "T1 MPRAGE post Gd": "T1Gd",
        "t2_space_dark-fluid": "FLAIR",
        "AX T2* GRE": "T2star",
        "SWI_Images": "T2star",
        "T2 TSE tra": "T2",
        "ep2d_diff_ADC": "",
        "localizer": "",
        "PDw TSE": "PD",
    }
    found = {text: modality_of({"Modality": "MR", "text": text}, rules) for text in expected}
    assert found == expected
    assert modality_of({"Modality": "CT", "text": "head 1.0 H20s"}, rules) == "CT"
    assert modality_of({"Modality": "PT", "text": "brain NAC"}, rules) == ""
    nameless = {"Modality": "MR", "EchoTime": "90", "RepetitionTime": "9000"}
    assert modality_of(nameless | {"InversionTime": "2500"}, rules) == "FLAIR"
    assert modality_of(nameless | {"ScanningSequence": "SE"}, rules) == "T2"
    own = tmp_path / "own.toml"
    own.write_text('[[rule]]\nmodality = "ASL"\ntext = "pcasl"\n')
    assert modality_of({"text": "3D PCASL"}, read_rules(own)) == "ASL"
    own.write_text('[[rule]]\nmodality = "ASL"\ntext = "("\n')
    with pytest.raises(UserError, match="no regular expression"):
        read_rules(own)
    own.write_text("[[rule]\n")
    with pytest.raises(UserError, match="no rules can be read"):
        read_rules(own)


def test_bids_and_patient_folders(tmp_path: Path) -> None:
    image = nib.Nifti1Image(phantom(8), np.eye(4))
    for name in (
        "sub-01/ses-a/anat/sub-01_ses-a_T1w.nii.gz",
        "sub-01/ses-a/anat/sub-01_ses-a_ce-gadolinium_T1w.nii.gz",
        "sub-01/ses-a/anat/sub-01_ses-a_T2starw.nii.gz",
        "sub-01/ses-a/pet/sub-01_ses-a_pet.nii.gz",
    ):
        path = tmp_path / "bids" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        nib.save(image, path)
    sources, refused = find_sources(tmp_path / "bids")
    assert not refused
    chosen = choose(sources, read_rules(), ("T1", "T1Gd", "T2star", "PET"), "T1")
    assert {m: found[0].files[0].name for m, found in chosen.items()} == {
        "T1": "sub-01_ses-a_T1w.nii.gz",
        "T1Gd": "sub-01_ses-a_ce-gadolinium_T1w.nii.gz",
        "T2star": "sub-01_ses-a_T2starw.nii.gz",
        "PET": "sub-01_ses-a_pet.nii.gz",
    }
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="neither DICOM"):
        find_sources(tmp_path / "empty")


def test_slices_are_normalised_and_split(tmp_path: Path) -> None:
    store = CohortStore.create(str(tmp_path / "c"), stack_format(("T1",), (32, 32)))
    volume = phantom(32, 6).transpose(2, 1, 0)[:, None]
    for name, split in {"p-1": "train", "p-2": "val"}.items():
        told = Entry(split, np.eye(4).tolist(), ["T1"], scale={"T1": 100.0})  # type: ignore[arg-type]
        store.write(name, volume, told)
    slices = store.slices(store.having(["T1"], "train"), ["T1"])
    assert slices.shape == (6, 1, 32, 32)
    assert torch.equal(slices, torch.from_numpy(volume / 100).clamp(0, 1))
    with pytest.raises(UserError, match="0 patients have T1"):
        store.slices(store.having(["T1"], "test"), ["T1"])


def test_slices_are_read_one_by_one(tmp_path: Path) -> None:
    store = CohortStore.create(str(tmp_path / "c"), stack_format(("T1", "CT"), (32, 32)))
    volume = np.stack([phantom(32, 6, k).transpose(2, 1, 0) for k in range(2)], 1)
    volume[0] = 0  # no head in the lowest slice
    kept = Entry("train", np.eye(4).tolist(), ["T1", "CT"], scale={"T1": 100.0})
    for name in ("p-1", "p-2"):
        store.write(name, volume, kept)
    store.write("p-3", 0 * volume, kept)
    store.fit()
    entries = store.patients()
    examples = CohortSlices(store, {p: entries[p] for p in ("p-1", "p-2")}, ("CT", "T1"))
    assert len(examples) == 10
    x = examples.read([0, 9])
    whole = store.stack("p-1", entries["p-1"], ("CT", "T1"))
    assert torch.equal(x, whole[[1, 5]])
    assert torch.equal(whole[:, 1], torch.from_numpy(volume[:, 0] / 100).clamp(0, 1))
    with pytest.raises(UserError, match="no slice of a head in 1 patients"):
        CohortSlices(store, {"p-3": entries["p-3"]}, ("T1", "CT"))
