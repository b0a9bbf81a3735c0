"""The command prepare: sources of every kind, kills, clusters, and what is written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from any2all_core.testing import phantom
from any2all_data.ranking import choose
from any2all_data.rules import read_rules
from any2all_data.sources import find_sources
from any2all_data.store import CohortStore
from builders.cohorts import NATIVE, TINY_RUN, cohort_folder, contents
from builders.command_line import Run
from builders.dicom import save, stack

pytestmark = pytest.mark.slow


def test_prepare_append_and_train(any2all: Run, tmp_path: Path) -> None:
    source = cohort_folder(tmp_path / "source")
    (source / "P4/FLAIR.nii.gz").unlink()
    (source / "Ada Müller/T1Gd.nii.gz").unlink()
    (source / "Ada Müller/Ada_Müller_T1Gd.nii.gz").write_bytes(b"\x1f\x8b damaged")
    shown = any2all("prepare", "--dry-run", source)
    assert "p-" in shown.stdout
    assert "Ada" not in shown.stdout + shown.stderr
    assert "Ada" in any2all("prepare", "--dry-run", "--show-names", source).stdout
    done = any2all("prepare", source, "c", *NATIVE, "--split", "train", "--workers", 2)
    assert done.returncode == 0, done.stderr
    assert "4 prepared" in done.stderr
    assert "deface the images before you share" in done.stderr
    entries = CohortStore.open(str(tmp_path / "c")).patients()
    assert len(entries) == 4
    lacking = sorted(tuple(e.present) for e in entries.values() if len(e.present) < 3)
    assert lacking == [("T1", "FLAIR"), ("T1", "T1Gd")]
    assert "Ada" not in any2all("cohort", "c").stdout
    # no name in the store, in what was printed, or in the salt's neighbourhood
    everything = b"".join(contents(tmp_path / "c").values()) + done.stderr.encode()
    for secret in (b"Ada", b"Nowak", b"P4", str(tmp_path).encode()):
        assert secret not in everything.replace(b"cohort in c", b"")
    assert oct((tmp_path / "c.salt").stat().st_mode)[-3:] == "600"
    # twice is once; more is appended
    before = contents(tmp_path / "c")
    again = any2all("prepare", source, "c", *NATIVE, "--split", "train")
    assert "4 unchanged" in again.stderr
    assert contents(tmp_path / "c") == before
    more = cohort_folder(tmp_path / "more", ("new", "newer"), depth=5)
    for path in more.glob("*/T1Gd.nii.gz"):  # who lacks one of the cohort's modalities is kept
        path.unlink()
    any2all("prepare", more, "c", *NATIVE, "--split", "test")
    table = any2all("cohort", "c").stdout
    assert "6 patients" in table
    # the values are those of the files, in their place
    store = CohortStore.open(str(tmp_path / "c"))
    whole = {p: e for p, e in store.patients().items() if len(e.present) == 3}
    name, found = next((p, e) for p, e in whole.items() if e.split == "train")
    images = store.images(name)
    assert images.shape == (4, 3, 32, 32)
    assert images.max() == pytest.approx(195, abs=10)
    assert found.affine[0][0] == pytest.approx(-1.5)
    # sheets
    assert any2all("cohort", "c", "--qc", "qc").returncode == 0
    assert len(list((tmp_path / "qc").glob("p-*.png"))) == 6
    assert (tmp_path / "qc/histograms.png").exists()
    trained = any2all("train", "--data", "c", "--output", "run", *TINY_RUN)
    assert trained.returncode == 0, trained.stderr
    assert "the cohort has no val patient: 1 of train are held out" in trained.stderr
    made = json.loads((tmp_path / "run/prior.json").read_text())
    assert [m["name"] for m in made["images"]["modalities"]] == ["T1", "FLAIR", "T1Gd"]
    assert made["error_floor"] == 0.04, "an untrained network is far off: the largest is best"
    draw, copy = made["training"]["missing"]["T1"]["FLAIR"]
    assert draw < copy  # after two steps
    assert "FLAIR: on held-out patients a copy of" in trained.stderr
    command = ("sample", "--prior", "run", "--input", f"c/{name}", "--modalities", "T1=clean")
    sampled = any2all(*command, "--output", "out")
    assert sampled.returncode == 0, sampled.stderr
    assert f"FLAIR: on held-out patients a copy of T1 was nearer to it ({copy:.1f} dB" in (
        sampled.stderr + sampled.stdout
    )


def test_mistakes_of_prepare_are_told(any2all: Run, tmp_path: Path) -> None:
    source = cohort_folder(tmp_path / "source", ("a", "b"))
    (tmp_path / "full").mkdir()
    files = {
        "full/precious.txt": "keep me",
        "short": "short",
        "salt": "sixteen bytes and more",
        "text.json": '{"train": "ab"}',
        "rules.toml": "rule = 5",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    for arguments, said in {
        (source,): "expected SOURCE COHORT",
        (tmp_path / "nowhere", "c"): "nowhere: no such folder",
        (source, "c", "--spacing", "2,2"): "--spacing 2,2: expected native",
        (source, "c", "--modalities", "T1,CT"): "no CT; the source has T1, FLAIR, T1Gd",
        (source, "c", "--split", "half"): "--split half: expected auto",
        (source, "c", "--reference", "CT"): "--reference CT: no CT was found, but T1 (2 patients)",
        (source, "c", "--spacing", "nan,1,1"): "expected mm from 0.05 to 50",
        (source, "c", "--modalities", "T1,T1"): "expected different names",
        (source, "c", "--salt", tmp_path / "short"): "5 bytes; expected a file of 16 bytes or more",
        (source, "c", "--split", tmp_path / "text.json"): "not readable as JSON {split: [names]}",
        (source, "c", "--rules", tmp_path / "rules.toml"): "needs modality = ",
        (source, "full"): "full: exists and is not a cohort",
        (source, source): "one lies inside the other",
        (source, source / "c"): "one lies inside the other",
        (source, "memory://c", "--salt", tmp_path / "salt"): "other processes can't see it",
        (source, "c", "--workers", 0): "greater than or equal to 1",
        (source, "c", "--scheduler", "tcp://127.0.0.1:9", *NATIVE): "no Dask scheduler answers",
        (source, "d", "--scheduler", "nonsense", *NATIVE): "no Dask scheduler answers",
    }.items():
        done = any2all("prepare", *arguments)
        assert (done.returncode, said in done.stderr) == (2, True), done.stderr
        assert done.stderr.count("\n") == 1 or "--scheduler" in arguments, done.stderr
        assert "Traceback" not in done.stderr
        assert not (tmp_path / "c.salt").exists() or "--scheduler" in arguments
    assert sorted(p.name for p in (tmp_path / "full").iterdir()) == ["precious.txt"]
    assert "there is no cohort" in any2all("cohort", tmp_path / "nowhere").stderr


def test_what_is_there_is_not_written_over(any2all: Run, tmp_path: Path) -> None:
    """Fewer files than before, another split: refused, unless asked for."""
    source = cohort_folder(tmp_path / "source", ("a", "b"))
    command = ("prepare", source, "c", *NATIVE, "--workers", 1, "--split")
    assert any2all(*command, "train").returncode == 0
    before = contents(tmp_path / "c")
    (source / "a/T1.nii.gz").rename(tmp_path / "T1.nii.gz")
    done = any2all(*command, "train")
    assert done.returncode == 1
    assert "it is there already with other sources; give --replace" in done.stderr
    assert "1 unchanged, 1 refused" in done.stderr
    assert contents(tmp_path / "c") == before
    (tmp_path / "T1.nii.gz").rename(source / "a/T1.nii.gz")
    done = any2all(*command, "val", "--replace")
    assert done.returncode == 0, done.stderr
    assert {e.split for e in CohortStore.open(str(tmp_path / "c")).patients().values()} == {"val"}
    assert "2 patients" in any2all("cohort", f"file://{tmp_path}/c").stdout


def test_the_next_series_is_used_where_the_first_is_damaged(any2all: Run, tmp_path: Path) -> None:
    source = cohort_folder(tmp_path / "source", ("a", "b", "c"))
    (source / "a/T1_run2.nii.gz").write_bytes((source / "a/T1.nii.gz").read_bytes())
    (source / "a/T1.nii.gz").write_bytes(b"\x1f\x8b damaged")
    nib.save(nib.Nifti1Image(-phantom(), np.diag([-1.5, -1.5, 4, 1])), source / "b/FLAIR.nii.gz")
    (source / "c/T1.nii.gz").write_bytes(b"\x1f\x8b damaged")
    done = any2all("prepare", source, "x", *NATIVE, "--workers", 1, "--split", "train")
    assert done.returncode == 0, done.stderr
    entries = list(CohortStore.open(str(tmp_path / "x")).patients().values())
    said = [note for entry in entries for note in entry.notes if "defaced" not in note]
    assert any(note.startswith("T1 is another series, the first: its file: not") for note in said)
    assert "no T1 image; FLAIR is the reference instead" in said
    left_out = {m: why for entry in entries for m, why in entry.left_out.items()}
    assert left_out["FLAIR"] == "it holds no signal, nothing above 0"
    assert sorted(len(entry.present) for entry in entries) == [2, 2, 3]


def test_sessions_are_joined_or_apart(any2all: Run, tmp_path: Path) -> None:
    """Also in a folder whose own name begins like a BIDS subject's."""
    bids = tmp_path / "sub-study/bids"
    for name in ("sub-01/ses-a/anat/x_T1w", "sub-01/ses-b/anat/x_T1w", "sub-02/ses-a/anat/x_T1w"):
        for kind in ("T1w", "FLAIR"):
            path = bids / f"{name.replace('T1w', kind)}.nii.gz"
            path.parent.mkdir(parents=True, exist_ok=True)
            seed = len(name) + ("ses-b" in name) + 7 * (kind == "FLAIR")
            nib.save(nib.Nifti1Image(phantom(seed=seed), np.diag([-1.5, -1.5, 4, 1])), path)
    (bids / "sub-02/ses-a/anat/x_FLAIR.nii.gz").rename(bids / "sub-02/x_FLAIR.nii.gz")
    for name, options in {"joined": (), "apart": ("--by-session",)}.items():
        done = any2all("prepare", bids, name, *NATIVE, "--workers", 1, *options)
        assert done.returncode == 0, done.stderr
    joined, apart = (CohortStore.open(str(tmp_path / n)).patients() for n in ("joined", "apart"))
    assert sorted(tuple(e.present) for e in joined.values()) == [("T1", "FLAIR")] * 2
    assert sorted(len(e.present) for e in apart.values()) == [1, 1, 2, 2]
    splits: dict[str, set[str]] = {}
    for key, entry in apart.items():
        splits.setdefault(key[:14], set()).add(entry.split)
    assert len(splits) == 2
    assert all(len(found) == 1 for found in splits.values())
    sources, _ = find_sources(bids)
    first = choose(
        [s for s in sources if s.patient == "sub-01"], read_rules(), ("T1", "FLAIR"), "T1"
    )
    assert first["T1"][0].session == first["FLAIR"][0].session == "ses-a"


def test_virtual_people_on_a_grid_that_is_no_square(any2all: Run, tmp_path: Path) -> None:
    grid = ("--spacing", "6,6,12", "--size", "40,32", "--workers", 1)
    made = any2all("prepare", "--virtual", 1, *grid, "c")
    assert made.returncode == 0, made.stderr
    store = CohortStore.open(str(tmp_path / "c"))
    assert store.images("virtual-00000").shape == (15, 5, 40, 32)
    refused = any2all("prepare", "--virtual", 1, "--size", "40,4", "d")
    assert refused.returncode == 2
    assert "--size 40,4: expected 8 to 4096" in refused.stderr
    assert not (tmp_path / "d").exists()


def test_dicom_becomes_a_cohort_without_names(process: Run, any2all: Run, tmp_path: Path) -> None:
    """Real DICOM files of three patients, one with a series that is no volume."""
    source, secrets = tmp_path / "source", ("Doe^Jane", "MRN-777", "Secret clinic", "1.2.99")
    for k in range(3):
        told: dict[str, Any] = {
            "PatientID": f"MRN-777-{k}",
            "PatientName": f"Doe^Jane{k}",
            "InstitutionName": "Secret clinic",
            "StudyInstanceUID": f"1.2.99.{k}",
            "FrameOfReferenceUID": f"1.2.99.{k}.1",
        }
        folder = source / f"Doe^Jane{k}"
        for n, description in enumerate(("t1_mprage ../../x", "t2 dark-fluid")):
            slices = stack(uid=f"1.2.99.{k}.{2 + n}", SeriesDescription=description, **told)
            if k == 2 and n == 1:
                slices = slices[:1] + slices[2:]
            save(folder / str(n), slices)
    done = process("prepare", source, "c", *NATIVE, "--split", "train")
    assert done.returncode == 0, done.stderr
    entries = CohortStore.open(str(tmp_path / "c")).patients().values()
    assert sorted(len(entry.present) for entry in entries) == [1, 2, 2]
    (why,) = [why for entry in entries for why in entry.left_out.values()]
    assert why == "series 3: missing slices: 1 (increments of 3 to 6 mm)"
    trained = any2all("train", "--data", "c", "--output", "run", *TINY_RUN)
    assert trained.returncode == 0, trained.stderr
    kept = json.loads((tmp_path / "run/prior.json").read_text())
    assert [m["name"] for m in kept["images"]["modalities"]] == ["T1", "FLAIR"]
    assert kept["images"]["grid"] == {
        "spacing": None,
        "reference": "T1",
        "bias_corrected": False,
    }
    done.stderr += trained.stderr
    written = {p: c for p, c in contents(tmp_path).items() if not p.startswith("source")}
    everything = done.stderr.encode() + b"".join(written.values()) + " ".join(written).encode()
    for secret in (*secrets, "../../x", "dark-fluid"):
        assert secret.encode() not in everything


def test_training_is_followed_in_tensorboard(any2all: Run, tmp_path: Path) -> None:
    source = cohort_folder(tmp_path / "source", ("a", "b"))
    any2all("prepare", source, "c", *NATIVE, "--workers", 1, "--split", "train")
    done = any2all("train", "--data", "c", *TINY_RUN, "--output", "run", "--tensorboard")
    assert done.returncode == 0, done.stderr
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "run/tensorboard"))
    events.Reload()
    assert {"loss", "validation_loss", "psnr_t500"} <= set(events.Tags()["scalars"])
    (sheet,) = events.Images("draws")
    assert (sheet.width, sheet.height) == (8 * 32, 3 * 32)
    assert list((tmp_path / "run/draws").glob("0000002.png"))
