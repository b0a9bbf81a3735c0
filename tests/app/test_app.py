"""What the command does, as Python functions."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import any2all
import numpy as np
import pytest
from any2all import NamedPrior, Observer, Training, UserError, complete, fill, train
from any2all_data.stacking import Preparation
from any2all_data.store import CohortStore
from builders.command_line import Run
from builders.nifti import load
from builders.patients import write_patient

pytestmark = pytest.mark.slow

KNOWN = {"T1": "clean", "FLAIR": "kspace:acceleration=2:coils=2"}


class Kept(Observer):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.done: dict[str, tuple[int, int]] = {}

    def say(self, text: str) -> None:
        self.said.append(text)

    def progress(
        self, what: str, done: int, total: int, detail: str = "", *, share: float | None = None
    ) -> None:
        assert done >= self.done.get(what, (0, 0))[0]
        self.done[what] = (done, total)


def test_complete_gives_what_the_command_writes(
    patient: Path, prior_folder: Path, any2all: Run, tmp_path: Path
) -> None:
    completion = complete(
        patient, KNOWN, prior_folder, "mds:steps=3", draws=2, slices="1:3", simulate=True, seed=4
    )
    completion.save(tmp_path / "api")
    done = any2all(
        *("sample", "--prior", prior_folder, "--input", patient, "--simulate", "--seed", 4),
        *("--modalities", ",".join(f"{m}={known}" for m, known in KNOWN.items())),
        *("--set", "steps=3", "--draws", 2, "--slices", "1:3", "--output", "cli"),
    )
    assert done.returncode == 0, done.stderr
    names = {path.name for path in (tmp_path / "cli").iterdir()}
    assert {path.name for path in (tmp_path / "api").iterdir()} == names
    for name in sorted(name for name in names if name.endswith(".nii.gz")):
        ours, theirs = (load(tmp_path / way / name) for way in ("api", "cli"))
        np.testing.assert_array_equal(ours.get_fdata(), theirs.get_fdata())
        np.testing.assert_array_equal(ours.affine, theirs.affine)
    reports = [json.loads((tmp_path / way / "report.json").read_text()) for way in ("api", "cli")]
    assert reports[1].pop("command").startswith("any2all sample")
    for report in reports:
        report.pop("seconds")
    assert reports[0] == reports[1]
    # the images are those of the files, and a clean one is as it went in
    assert completion.modalities == ("T1", "FLAIR", "T1Gd")
    given = load(patient / "T1.nii.gz").get_fdata().transpose(2, 1, 0)[1:3]
    np.testing.assert_array_equal(completion.images["T1"], given)
    assert completion.images["FLAIR"].max() > 50, "in the units of its source"
    assert completion.std["FLAIR"].shape == (2, 32, 32)
    assert completion.std["FLAIR"].max() > 0
    with pytest.raises(UserError, match="holds other results already"):
        completion.save(tmp_path / "api")


def test_a_mistake_is_told_in_one_line(patient: Path, prior_folder: Path) -> None:
    prior = NamedPrior.load(prior_folder)
    mistakes: dict[tuple[str | Path, str, str, str], str] = {
        ("nowhere", "T1", "clean", "mds"): "nowhere: no such folder",
        (patient, "PET", "clean", "mds"): "unknown modality PET",
        (patient, "T1", "clear", "mds"): "unknown operator 'clear'",
        (patient, "T1", "clean", "mds:step=3"): "has no option 'step'",
    }
    for (folder, modality, operator, sampler), said in mistakes.items():
        with pytest.raises(UserError, match=said) as mistake:
            complete(folder, {modality: operator}, prior, sampler)
        assert "\n" not in str(mistake.value)


def test_train_and_draw_new_people(tmp_path: Path) -> None:
    for k in range(3):
        write_patient(tmp_path / f"data/p{k}", seed=k)
    tiny = {"channels": "8+16", "norm_groups": "2", "blocks": "1", "steps": "2", "batch_size": "2"}
    observer = Kept()
    folder = train(Training(str(tmp_path / "data"), changes=tiny), tmp_path / "run", observer)
    assert observer.done["reading patients"] == (3, 3)
    assert observer.done["training"] == (2, 2)
    assert any(text.startswith("trained on 8 slices, validated on 4") for text in observer.said)
    made = json.loads((folder / "prior.json").read_text())
    assert made["error_floor"] in (0.0, 0.005, 0.01, 0.02, 0.04)
    assert set(made["training"]["missing"]) == {m["name"] for m in made["images"]["modalities"]}
    completer = any2all.Completer(
        NamedPrior.load(folder), (), any2all.make_sampler("ddpm", {"steps": "2"}), "ddpm", draws=3
    )
    new = completer.draw(observer)
    assert observer.done["sampling, network passes"] == (6, 6)
    assert new.draws.shape == (3, 3, 32, 32)
    new.save(tmp_path / "new")
    assert len(list((tmp_path / "new").glob("draw_*/T1.nii.gz"))) == 3
    assert isinstance(completer.prior, NamedPrior)
    with pytest.raises(UserError, match="no cohort"):
        fill(
            str(tmp_path / "data"),
            any2all.Filling(completer.prior, any2all.make_sampler("mds"), "mds"),
        )


def test_a_cohort_is_prepared_as_by_the_command(tmp_path: Path) -> None:
    for k in range(2):
        write_patient(tmp_path / f"source/p{k}", seed=k)
    preparing = any2all.Preparing(
        spacing=None, size=(32, 32), split="train", preparation=Preparation(register=False)
    )
    found = any2all.find_patients(tmp_path / "source", str(tmp_path / "c"), preparing)
    assert found.modalities == ("T1", "FLAIR", "T1Gd")
    assert {who[0] for who in found.sources} == {"p0", "p1"}
    assert not (tmp_path / "c.salt").exists(), "nothing is written by looking"
    observer = Kept()
    outcomes = any2all.prepare(found, str(tmp_path / "c"), preparing, observer)
    assert [outcome.status for outcome in outcomes] == ["prepared"] * 2
    assert observer.done["preparing"] == (2, 2)
    store = CohortStore.open(str(tmp_path / "c"))
    assert set(store.patients()) == set(found.keys.values())
    wrong = dataclasses.replace(preparing, reference="CT")
    with pytest.raises(UserError, match="no CT was found, but T1"):
        any2all.prepare(found, str(tmp_path / "d"), wrong)
    assert not (tmp_path / "d").exists()


def test_every_public_name_is_there_and_documented() -> None:
    for name in [*any2all.__all__, *any2all.OPTIONAL]:
        assert getattr(any2all, name).__doc__, name
