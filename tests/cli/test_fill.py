"""What training patients lack: drawn beside their images, trained on, never taken for a scan."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from any2all_app import NamedPrior
from any2all_app.filling import Filling, draw_missing
from any2all_core import (
    DiffusionPrior,
    ModalityFormat,
    PriorSettings,
    Range,
    StackFormat,
    make_sampler,
    reconstruct,
)
from any2all_core.network import build_prior
from any2all_core.testing import MODALITIES, TINY_RECIPE, phantom
from any2all_data.cohort_entry import Entry
from any2all_data.kinds import stack_format
from any2all_data.store import CohortStore
from any2all_operators import BlockDiagonal, Identity
from builders.cohorts import TINY_RUN
from builders.command_line import Run
from PIL import Image

pytestmark = pytest.mark.slow

STEPS = ("--set", "steps=3")
PRESENT = {
    "p-1": ["T1", "FLAIR", "T1Gd"],
    "p-2": ["T1", "FLAIR", "T1Gd"],
    "p-3": ["T1", "T1Gd"],
    "p-4": ["FLAIR"],
    "p-5": [],
    "p-6": ["T1"],
}


@pytest.fixture
def store(tmp_path: Path) -> CohortStore:
    """Four slices a patient, of which the lowest shows no head; p-6 is a test patient."""
    made = CohortStore.create(str(tmp_path / "c"), stack_format(MODALITIES, (32, 32)))
    for seed, (patient, present) in enumerate(PRESENT.items()):
        images = np.stack([phantom(seed=10 * seed + k).transpose(2, 1, 0) for k in range(3)], 1)
        images[0] = 0
        for k, m in enumerate(MODALITIES):
            images[:, k] *= m in present
        split = "test" if patient == "p-6" else "train"
        scale = dict.fromkeys(present, 200.0)
        made.write(patient, images, Entry(split, np.eye(4).tolist(), present, scale=scale))  # type: ignore[arg-type]
    return made


def drawn(store: CohortStore) -> dict[str, torch.Tensor]:
    """What was drawn of each patient, MR in [0, 1]."""
    return {
        p: torch.from_numpy(store.array(p, "drawn")[:])
        for p, e in store.patients().items()
        if e.drawn
    }


def test_gaps_are_filled_and_trained_on(
    store: CohortStore, any2all: Run, prior_folder: Path, tmp_path: Path
) -> None:
    measured = {p: store.images(p) for p in PRESENT}
    train = ("train", "--data", "c", *TINY_RUN, "--set", "levels=shared", "--output")
    refused = any2all(*train, "run", "--incomplete")
    assert refused.returncode == 2
    planned, why = refused.stderr.splitlines()
    assert planned.startswith("recipe planned for")
    assert "2 of the 2 patients of train who lack some" in why
    assert "any2all fill c --prior PRIOR" in why
    (tmp_path / "run").rmdir()

    command = ("fill", "c", "--prior", prior_folder, *STEPS)
    done = any2all(*command)
    assert done.returncode == 0, done.stderr
    assert "2 patients lacked images: the drawn images are synthetic" in done.stderr
    entries, first = store.patients(), drawn(store)
    assert {p: e.drawn for p, e in entries.items() if e.drawn} == {
        "p-3": ["FLAIR"],
        "p-4": ["T1", "T1Gd"],
    }
    assert entries["p-3"].drawn_by["sampler"]["steps"] == 3
    for patient, images in measured.items():  # what was measured stays as it was
        assert np.array_equal(store.images(patient), images)
        assert entries[patient].present == PRESENT[patient]
    assert not first["p-3"][0].any()  # of a slice without a head nothing is drawn
    stack = store.stack("p-4", entries["p-4"], MODALITIES)
    assert torch.equal(stack[:, ::2], first["p-4"])
    assert torch.equal(stack[:, 1], torch.from_numpy(measured["p-4"][:, 1] / 200).clamp(0, 1))
    assert re.search(r"p-4 .* drawn .* yes .* drawn", any2all("cohort", "c").stdout)

    assert any2all("cohort", "c", "--qc", "qc").returncode == 0
    heights = {}
    for patient in ("p-1", "p-4", "p-6"):
        with Image.open(tmp_path / f"qc/{patient}.png") as sheet:
            heights[patient] = sheet.height
    assert heights["p-1"] == heights["p-4"] == 3 * heights["p-6"]

    trained = any2all(*train, "run", "--incomplete")
    assert trained.returncode == 0, trained.stderr
    told = [any2all(*train, "whole").stderr, trained.stderr]
    counts = [int(re.search(r"trained on (\d+)", text)[1]) for text in told]  # type: ignore[index]
    assert counts == [3, 9]  # one whole patient of two is held out; a slice less each
    assert "2 patients of train have synthetic images, drawn by a prior" in trained.stderr
    card = json.loads((tmp_path / "run/prior.json").read_text())["training"]["drawn"]
    assert card == {"patients": 2, "by": [entries["p-3"].drawn_by]}
    resume = ("run", "--incomplete", "--resume")
    assert any2all(*train, *resume).returncode == 0

    again = any2all(*command)  # nothing is drawn anew
    assert again.returncode == 0
    assert all(torch.equal(first[p], images) for p, images in drawn(store).items())
    other = any2all(*command, "--seed", 1)
    assert (other.returncode, other.stderr.count("\n")) == (2, 1)
    assert "2 patients have images drawn by another prior, sampler or seed" in other.stderr
    assert any2all(*command, "--seed", 1, "--replace").returncode == 0
    assert not torch.equal(first["p-3"], drawn(store)["p-3"])
    other = any2all(*train, *resume)
    assert other.returncode == 2
    assert "its run has drawn = {" in other.stderr

    for arguments, said in {
        (
            "fill",
            "c",
            "--prior",
            "virtual",
        ): "--prior virtual: has slices of 112 x 96, but c has 32",
        ("fill", "nowhere", "--prior", prior_folder): "nowhere: there is no cohort",
        (
            "train",
            "--data",
            ".",
            "--output",
            "x",
            "--incomplete",
        ): ". is not a cohort; make one with",
        (*command, "--batch-size", 0): "expected at least 1",
    }.items():
        refused = any2all(*arguments)
        assert (refused.returncode, refused.stderr.count("\n")) == (2, 1), refused.stderr
        assert said in refused.stderr


def test_gaps_need_no_draws_where_each_modality_has_its_level(
    store: CohortStore, any2all: Run, prior_folder: Path, tmp_path: Path
) -> None:
    """And draws that are there have no part in it: the weights are the same without them."""
    train = ("train", "--data", "c", *TINY_RUN, "--incomplete", "--output")
    done = any2all(*train, "one")
    assert done.returncode == 0, done.stderr
    assert "2 patients of train lack some of T1, FLAIR, T1Gd" in done.stderr
    assert int(re.search(r"trained on (\d+)", done.stderr)[1]) == 9  # type: ignore[index]
    assert any2all("fill", "c", "--prior", prior_folder, *STEPS).returncode == 0
    assert any2all(*train, "two").returncode == 0
    one, two = (DiffusionPrior.load(tmp_path / name, "float32") for name in ("one", "two"))
    assert one.settings.training["incomplete"] == 2
    for a, b in zip(one.parameters(), two.parameters(), strict=True):
        assert torch.equal(a, b)


def test_draws_are_those_of_reconstruct_on_any_number_of_processes(
    store: CohortStore, prior_folder: Path, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command += ["-m", "any2all_cli", "fill", str(tmp_path / "c"), "--prior", str(prior_folder)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, *STEPS, "--precision", "float32"],
        capture_output=True,
        text=True,
        timeout=300,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    prior, sampler = (
        DiffusionPrior.load(prior_folder, "float32"),
        make_sampler("mds", {"steps": "3"}),
    )
    for patient, images in drawn(store).items():
        entry, known = store.patients()[patient], PRESENT[patient]
        x = store.stack(patient, entry, known)[1:]
        seed = int.from_bytes(hashlib.sha256(f"0 {patient}".encode()).digest()[:8])
        expected = reconstruct(
            prior,
            BlockDiagonal({m: Identity() for m in known}),
            {m: x[:, k] for k, m in enumerate(known)},
            sampler,
            slice_ids=[1, 2, 3],
            seed=seed,
        )[0]
        missing = [k for k, m in enumerate(MODALITIES) if m not in known]
        assert torch.allclose(images[1:], expected[:, missing], atol=1e-5)
    assert len(drawn(store)) == 2


def test_a_write_that_is_cut_short_leaves_nothing_drawn(
    store: CohortStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, entry = np.ones((4, 1, 32, 32), np.float32), store.patients()["p-3"]
    store.update("p-3", replace(entry, notes=["of another process"]))
    store.write_drawn("p-3", images, ["FLAIR"], {"prior": "a"})
    told = replace(entry, notes=["of another process"], drawn=["FLAIR"], drawn_by={"prior": "a"})
    assert store.patients()["p-3"] == told
    with pytest.raises(ValueError, match="expected"):
        store.write_drawn("p-3", images[:, :, :8], ["FLAIR"], {})
    assert np.array_equal(store.array("p-3", "drawn")[:], images)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have it ignored
    with monkeypatch.context() as patch:
        patch.setattr("any2all_data.store._keep", lambda *_: os.kill(os.getpid(), signal.SIGINT))
        with pytest.raises(KeyboardInterrupt):
            store.write_drawn("p-3", images, ["FLAIR"], {"prior": "b"})
    signal.signal(signal.SIGINT, before)
    assert store.patients()["p-3"].drawn == []


def test_what_is_accepted_was_not_known_to_the_draws(store: CohortStore, any2all: Run) -> None:
    entry = store.patients()["p-4"]
    store.update("p-4", replace(entry, aside={"T1": 0.4}, scale={"FLAIR": 200.0, "T1": 200.0}))
    store.write_drawn("p-4", np.ones((4, 2, 32, 32), np.float32), ["T1", "T1Gd"], {"prior": "a"})
    assert any2all("cohort", "c", "--qc", "qc").returncode == 0
    with Image.open("qc/p-4.png") as sheet, Image.open("qc/p-1.png") as whole:
        # FLAIR, T1 as it is set aside, T1 and T1Gd as they were drawn
        assert 3 * sheet.height == 4 * whole.height
        row = sheet.height // 4
        set_aside, synthetic = (sheet.crop((0, k * row, 160, k * row + 18)) for k in (1, 2))
        assert set_aside.tobytes() != synthetic.tobytes()
    assert any2all("cohort", "c", "--accept", "p-4:T1").returncode == 0
    kept = store.patients()["p-4"]
    assert (kept.present, kept.drawn, kept.drawn_by) == (["T1", "FLAIR"], [], {})


def test_units_have_to_be_the_cohorts(any2all: Run, tmp_path: Path) -> None:
    store = CohortStore.create(str(tmp_path / "c"), stack_format(("T1", "CT"), (32, 32)))
    images = np.stack([phantom(seed=k).transpose(2, 1, 0) for k in range(2)], 1)
    store.write("p-1", images, Entry("train", np.eye(4).tolist(), ["T1", "CT"], scale={"T1": 200}))
    store.write("p-2", images, Entry("train", np.eye(4).tolist(), ["CT"]))
    store.fit()
    torch.manual_seed(0)
    build_prior(TINY_RECIPE, PriorSettings(StackFormat.of_names(("T1", "CT"), (32, 32)))).save(
        tmp_path / "prior"
    )
    refused = any2all("fill", "c", "--prior", "prior")
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1), refused.stderr
    assert "--prior prior: the units of its CT differ from the cohort's" in refused.stderr


def test_values_in_units_are_those_of_the_prior(tmp_path: Path) -> None:
    """A prior with another range of HU than the cohort's: what it draws keeps its HU."""
    store = CohortStore.create(str(tmp_path / "c"), stack_format(("T1", "CT"), (32, 32)))
    images = np.stack([phantom(seed=k).transpose(2, 1, 0) for k in range(2)], 1)
    store.write("p-1", images, Entry("train", np.eye(4).tolist(), ["T1", "CT"], scale={"T1": 200}))
    lacking = Entry("train", np.eye(4).tolist(), ["T1"], scale={"T1": 200})
    store.write("p-2", images * [[[[1]], [[0]]]], lacking)
    store.fit()
    torch.manual_seed(0)
    ct = ModalityFormat("CT", "HU", "group", Range(-1000.0, 3000.0))
    settings = PriorSettings(StackFormat((ModalityFormat("T1"), ct), (32, 32)))
    prior = build_prior(TINY_RECIPE, settings).eval().requires_grad_(False)
    sampler = make_sampler("mds", {"steps": "3"})
    filling = Filling(NamedPrior("untrained", prior, ""), sampler, "mds")
    hounsfield = draw_missing(f"{tmp_path}/c/p-2", ["CT"], filling)
    assert hounsfield.shape == (4, 1, 32, 32)
    assert hounsfield.min() < -500
    assert hounsfield.max() > 500
    store.write_drawn("p-2", hounsfield, ["CT"], {})
    stack = store.stack("p-2", store.patients()["p-2"], ("T1", "CT"))
    expected = store.format.ranges["CT"].normalise(hounsfield[:, 0])
    assert torch.equal(stack[:, 1], torch.from_numpy(expected))
