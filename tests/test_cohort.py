"""From folders of scans to a cohort, through real processes that may die."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from any2all_data.normalise import Range, fixed_range
from any2all_data.ranking import choose
from any2all_data.rules import modality_of, read_rules
from any2all_data.sources import find_sources
from any2all_data.store import CohortSettings, CohortSlices, CohortStore, Entry
from any2all_operators import UserError
from conftest import Run, phantom, write_patient
from test_dicom import save, stack

TINY_RUN = [
    part
    for setting in ("steps=2", "batch_size=2", "channels=8+16", "norm_groups=2", "warmup=1")
    for part in ("--set", setting)
]
NATIVE = ("--spacing", "native", "--size", 32)
NAMES = ("Ada Müller", "Jürgen Nowak", "../../x", "P4")


def cohort_folder(folder: Path, names: tuple[str, ...] = NAMES, **kwargs: int) -> Path:
    for k, name in enumerate(names):
        write_patient(folder / name.replace("/", "_"), **{"seed": 10 * k, **kwargs})
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def entry(split: str = "train", present: tuple[str, ...] = ("T1", "CT")) -> Entry:
    return Entry(split=split, affine=np.eye(4).tolist(), present=list(present), scale={"T1": 4.0})  # type: ignore[arg-type]


SETTINGS = CohortSettings(("T1", "CT"), (8, 6))


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
    assert CohortStore.create(url, SETTINGS).settings == SETTINGS
    with pytest.raises(UserError, match=r"this cohort has size \(8, 6\), not \(8, 8\)"):
        CohortStore.create(url, CohortSettings(("T1", "CT"), (8, 8)))
    with pytest.raises(UserError, match="no cohort there"):
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
    kept = CohortStore.open(str(tmp_path / "c")).normalisation()
    assert kept["CT"]["unit"] == "HU"
    assert fixed_range(kept["CT"]) == fitted
    assert fixed_range(kept["T1"]) is None
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


def test_prepare_append_and_train(process: Run, any2all: Run, tmp_path: Path) -> None:
    source = cohort_folder(tmp_path / "source")
    (source / "P4/FLAIR.nii.gz").unlink()
    (source / "Ada Müller/T1Gd.nii.gz").unlink()
    (source / "Ada Müller/Ada_Müller_T1Gd.nii.gz").write_bytes(b"\x1f\x8b damaged")
    shown = any2all("prepare", "--dry-run", source)
    assert "p-" in shown.stdout
    assert "Ada" not in shown.stdout + shown.stderr
    assert "Ada" in any2all("prepare", "--dry-run", "--show-names", source).stdout
    done = process("prepare", source, "c", *NATIVE, "--split", "train", "--workers", 2)
    assert done.returncode == 0, done.stderr
    assert "4 prepared" in done.stderr
    assert "deface them before you share" in done.stderr
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
    again = process("prepare", source, "c", *NATIVE, "--split", "train")
    assert "4 unchanged" in again.stderr
    assert contents(tmp_path / "c") == before
    more = cohort_folder(tmp_path / "more", ("new", "newer"), depth=5)
    for path in more.glob("*/T1Gd.nii.gz"):  # who lacks one of the cohort's modalities is kept
        path.unlink()
    process("prepare", more, "c", *NATIVE, "--split", "test")
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
    assert "no val patient in the cohort: 1 of train held out" in trained.stderr
    made = json.loads((tmp_path / "run/prior.json").read_text())
    assert made["modalities"] == ["T1", "FLAIR", "T1Gd"]
    assert made["error_floor"] == 0.04, "an untrained network is far off: the largest is best"
    draw, copy = made["training"]["missing"]["T1"]["FLAIR"]
    assert draw < copy  # after two steps
    assert "FLAIR: on held-out people a copy of" in trained.stderr
    command = ("sample", "--prior", "run", "--input", f"c/{name}", "--modalities", "T1=clean")
    sampled = any2all(*command, "--output", "out")
    assert sampled.returncode == 0, sampled.stderr
    assert f"FLAIR: on held-out people a copy of T1 came nearer to it ({copy:.1f} dB" in (
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
        (source, "c", "--modalities", "T1,T1"): "expected names, each once",
        (source, "c", "--salt", tmp_path / "short"): "5 bytes; expected a file of 16 or more",
        (source, "c", "--split", tmp_path / "text.json"): "not readable as JSON {split: [names]}",
        (source, "c", "--rules", tmp_path / "rules.toml"): "needs modality = ",
        (source, "full"): "full: there already, and no cohort",
        (source, source): "one is in the other",
        (source, source / "c"): "one is in the other",
        (source, "memory://c", "--salt", tmp_path / "salt"): "is seen by one process alone",
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
    assert "no cohort there" in any2all("cohort", tmp_path / "nowhere").stderr


def test_what_is_there_is_not_written_over(process: Run, any2all: Run, tmp_path: Path) -> None:
    """Fewer files than before, another split: refused, unless asked for."""
    source = cohort_folder(tmp_path / "source", ("a", "b"))
    command = ("prepare", source, "c", *NATIVE, "--workers", 1, "--split")
    assert process(*command, "train").returncode == 0
    before = contents(tmp_path / "c")
    (source / "a/T1.nii.gz").rename(tmp_path / "T1.nii.gz")
    done = process(*command, "train")
    assert done.returncode == 1
    assert "is there already, with other sources; --replace it, or not" in done.stderr
    assert "1 unchanged, 1 refused" in done.stderr
    assert contents(tmp_path / "c") == before
    (tmp_path / "T1.nii.gz").rename(source / "a/T1.nii.gz")
    done = process(*command, "val", "--replace")
    assert done.returncode == 0, done.stderr
    assert {e.split for e in CohortStore.open(str(tmp_path / "c")).patients().values()} == {"val"}
    assert "2 patients" in any2all("cohort", f"file://{tmp_path}/c").stdout


def test_the_next_series_is_used_where_the_first_is_damaged(process: Run, tmp_path: Path) -> None:
    source = cohort_folder(tmp_path / "source", ("a", "b", "c"))
    (source / "a/T1_run2.nii.gz").write_bytes((source / "a/T1.nii.gz").read_bytes())
    (source / "a/T1.nii.gz").write_bytes(b"\x1f\x8b damaged")
    nib.save(nib.Nifti1Image(-phantom(), np.diag([-1.5, -1.5, 4, 1])), source / "b/FLAIR.nii.gz")
    (source / "c/T1.nii.gz").write_bytes(b"\x1f\x8b damaged")
    done = process("prepare", source, "x", *NATIVE, "--workers", 1, "--split", "train")
    assert done.returncode == 0, done.stderr
    entries = list(CohortStore.open(str(tmp_path / "x")).patients().values())
    said = [note for entry in entries for note in entry.notes if "defaced" not in note]
    assert any(note.startswith("T1 is another series, the first: its file: not") for note in said)
    assert "no T1; FLAIR is the reference" in said
    left_out = {m: why for entry in entries for m, why in entry.left_out.items()}
    assert left_out["FLAIR"] == "it holds no signal, nothing above 0"
    assert sorted(len(entry.present) for entry in entries) == [2, 2, 3]


def test_sessions_are_joined_or_apart(process: Run, tmp_path: Path) -> None:
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
        done = process("prepare", bids, name, *NATIVE, "--workers", 1, *options)
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


def wait_for(condition, seconds: float = 60.0) -> None:  # type: ignore[no-untyped-def]
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it never came true"
        time.sleep(0.02)


def complete(folder: Path) -> int:
    try:
        return len(CohortStore.open(str(folder)).patients())
    except (UserError, OSError, ValueError):
        return 0


def test_virtual_people_on_a_grid_that_is_no_square(any2all: Run, tmp_path: Path) -> None:
    grid = ("--spacing", "6,6,12", "--size", "40,32", "--workers", 1)
    made = any2all("prepare", "--virtual", 1, *grid, "c")
    assert made.returncode == 0, made.stderr
    store = CohortStore.open(str(tmp_path / "c"))
    assert store.images("virtual-00000").shape == (15, 5, 40, 32)
    refused = any2all("prepare", "--virtual", 1, "--size", "40,4", "d")
    assert refused.returncode == 2
    assert "--size 40,4: expected from 8 to 4096" in refused.stderr
    assert not (tmp_path / "d").exists()


def test_killed_while_preparing_and_run_again(process: Run, tmp_path: Path) -> None:
    names = tuple(f"p{k}" for k in range(8))
    source = cohort_folder(tmp_path / "source", names, depth=12, size=64)
    command = ["prepare", source, "c", "--spacing", "native", "--size", "64", "--workers", "1"]
    assert process(*command[:2], "whole", *command[3:]).returncode == 0
    (tmp_path / "c.salt").write_bytes((tmp_path / "whole.salt").read_bytes())
    killed = subprocess.Popen(
        [sys.executable, "-m", "any2all_cli", *map(str, command)],
        cwd=tmp_path,
        start_new_session=True,
        stderr=subprocess.DEVNULL,
    )
    wait_for(lambda: complete(tmp_path / "c") >= 2)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    assert complete(tmp_path / "c") < 8
    again = process(*command)
    assert again.returncode == 0, again.stderr
    assert "unchanged" in again.stderr
    assert contents(tmp_path / "c") == contents(tmp_path / "whole")


def test_a_cluster_that_loses_a_worker(process: Run, tmp_path: Path) -> None:
    names = tuple(f"p{k}" for k in range(8))
    source = cohort_folder(tmp_path / "source", names, depth=12, size=64)
    options = ("--spacing", "native", "--size", 64)
    assert process("prepare", source, "whole", *options).returncode == 0
    (tmp_path / "c.salt").write_bytes((tmp_path / "whole.salt").read_bytes())
    address = tmp_path / "scheduler.json"
    dask = [sys.executable, "-m", "distributed.cli"]
    running = [
        subprocess.Popen(
            [*dask[:2], "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0",
             "--no-dashboard", "--scheduler-file", str(address)],
            cwd=tmp_path, stderr=subprocess.DEVNULL,
        )
    ]  # fmt: skip
    try:
        wait_for(lambda: address.exists() and address.read_text().endswith("}"))  # whole, that is
        url = json.loads(address.read_text())["address"]
        for _ in range(2):
            running.append(
                subprocess.Popen(
                    [*dask[:2], "distributed.cli.dask_worker", url, "--nthreads", "1",
                     "--no-nanny", "--no-dashboard"],
                    cwd=tmp_path, stderr=subprocess.DEVNULL,
                )
            )  # fmt: skip
        preparing = subprocess.Popen(
            [sys.executable, "-m", "any2all_cli", "prepare", str(source), "c",
             *map(str, options), "--scheduler", url],
            cwd=tmp_path, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        wait_for(lambda: complete(tmp_path / "c") >= 1)
        running[1].kill()
        _, said = preparing.communicate(timeout=120)
        assert preparing.returncode == 0, said
    finally:
        for one in running:
            one.kill()
            one.wait()
    assert contents(tmp_path / "c") == contents(tmp_path / "whole")


def test_dicom_becomes_a_cohort_without_names(process: Run, tmp_path: Path) -> None:
    """Real DICOM files of three patients, one with a series that is no volume."""
    source, secrets = tmp_path / "source", ("Doe^Jane", "MRN-777", "Secret clinic", "1.2.99")
    for k in range(3):
        told = {
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
    trained = process("train", "--data", "c", "--output", "run", *TINY_RUN)
    assert trained.returncode == 0, trained.stderr
    kept = json.loads((tmp_path / "run/prior.json").read_text())
    assert kept["modalities"] == ["T1", "FLAIR"]
    assert kept["training"]["grid"] == {
        "spacing": None,
        "reference": "T1",
        "bias_correct": False,
    }
    done.stderr += trained.stderr
    written = {p: c for p, c in contents(tmp_path).items() if not p.startswith("source")}
    everything = done.stderr.encode() + b"".join(written.values()) + " ".join(written).encode()
    for secret in (*secrets, "../../x", "dark-fluid"):
        assert secret.encode() not in everything


def test_slices_are_normalised_and_split(tmp_path: Path) -> None:
    store = CohortStore.create(str(tmp_path / "c"), CohortSettings(("T1",), (32, 32)))
    volume = phantom(32, 6).transpose(2, 1, 0)[:, None]
    for name, split in {"p-1": "train", "p-2": "val"}.items():
        told = Entry(split, np.eye(4).tolist(), ["T1"], scale={"T1": 100.0})  # type: ignore[arg-type]
        store.write(name, volume, told)
    slices = store.slices(store.having(["T1"], "train"), ["T1"])
    assert slices.shape == (6, 1, 32, 32)
    assert torch.equal(slices, torch.from_numpy(volume / 100).clamp(0, 1))
    with pytest.raises(UserError, match="0 patients with T1"):
        store.slices(store.having(["T1"], "test"), ["T1"])


def test_slices_are_read_one_by_one(tmp_path: Path) -> None:
    store = CohortStore.create(str(tmp_path / "c"), CohortSettings(("T1", "CT"), (32, 32)))
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


def test_training_is_followed_in_tensorboard(process: Run, any2all: Run, tmp_path: Path) -> None:
    source = cohort_folder(tmp_path / "source", ("a", "b"))
    process("prepare", source, "c", *NATIVE, "--workers", 1, "--split", "train")
    done = any2all("train", "--data", "c", *TINY_RUN, "--output", "run", "--tensorboard")
    assert done.returncode == 0, done.stderr
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "run/tensorboard"))
    events.Reload()
    assert {"loss", "validation_loss", "psnr_t500"} <= set(events.Tags()["scalars"])
    (sheet,) = events.Images("draws")
    assert (sheet.width, sheet.height) == (8 * 32, 3 * 32)
    assert list((tmp_path / "run/draws").glob("0000002.png"))
