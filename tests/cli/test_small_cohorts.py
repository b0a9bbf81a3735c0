"""What prepare shows of a small cohort."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from any2all_cli.qc import PER_MM, alignment_sheet
from any2all_core.testing import phantom
from any2all_data.cohort_entry import Entry
from any2all_data.store import CohortStore
from builders.command_line import Run
from builders.patients import lesion, write_patient
from torch import from_numpy

pytestmark = pytest.mark.slow


def test_prepare_shows_what_a_person_judges_by(any2all: Run, tmp_path: Path) -> None:
    source = tmp_path / "source"
    for k in range(5):
        write_patient(source / f"Ada{k}", seed=10 * k)
    lesion(source / "Ada0", "lesion.nii.gz")
    (source / "Ada1/FLAIR.nii.gz").write_bytes(b"\x1f\x8b damaged")
    for path in (source / "Ada2").iterdir():
        path.write_bytes(b"\x1f\x8b damaged")
    options = ("--spacing", "native", "--size", 32)
    shown = any2all("prepare", "--dry-run", source, "c", *options)
    planned = set(re.findall(r"p-[0-9a-f]{12}", shown.stdout))
    assert "lesion mask" in shown.stdout
    assert len(planned) == 5
    assert not (tmp_path / "c").exists()
    done = any2all("prepare", source, "c", *options, "--workers", 1)
    assert done.returncode == 1
    entries = CohortStore.open(str(tmp_path / "c")).patients()
    assert set(entries) < planned
    assert len(entries) == 4
    assert "4 patients in the cohort: " in done.stdout
    assert "refused: T1: " in done.stdout
    assert "FLAIR left out: its file: not readable as NIfTI" in done.stdout
    assert "lesion on T1" in done.stdout
    assert "Ada" not in done.stdout + done.stderr
    write_patient(source / "Ada5", seed=60)
    assert any2all("prepare", source, "c", *options, "--workers", 1).returncode == 1
    again = CohortStore.open(str(tmp_path / "c")).patients()
    assert all(again[name].split == entry.split for name, entry in entries.items())
    assert {"val", "test"} <= {entry.split for entry in again.values()}
    assert any2all("cohort", "c", "--qc", "qc").returncode == 0
    page = (tmp_path / "qc/index.html").read_text()
    assert page.count("<img") == 6
    for path in source.glob("*/T1.nii.gz"):
        path.unlink()
    told = any2all("prepare", source, "d", *options)
    assert told.returncode == 2
    assert "no T1 was found, but FLAIR (6 patients), T1Gd (6 patients)" in told.stderr
    assert "Map it with --rules FILE" in told.stderr
    assert not (tmp_path / "d.salt").exists()
    shown = any2all("prepare", "--dry-run", source)
    assert shown.returncode == 0
    assert "no T1 was found" in shown.stderr
    assert "these pseudonyms hold for this run only" in shown.stderr


def test_a_sheet_shows_a_millimetre() -> None:
    """The reference's edges, as thin lines, are three pixels a mm apart."""
    base = phantom(48, 8).transpose(2, 1, 0) / 200
    stack = from_numpy(np.stack([base, base], 1))
    affine = np.diag([-1.0, -1.0, 2.0, 1.0])
    entry = Entry("train", affine.tolist(), ["T1", "FLAIR"], quality={"FLAIR": 0.31})
    sheet = np.asarray(alignment_sheet("p-1", entry, ["T1", "FLAIR"], stack)).astype(int)
    red = (sheet[..., 0] > 200) & (sheet[..., 1] < 100)
    assert 0 < red.mean() < 0.03
    inside = (base.mean(0) > 0.05).any(0).sum() * PER_MM
    columns = np.flatnonzero(red[:, : sheet.shape[1] // 5].any(0))
    assert abs(np.ptp(columns) - inside) < 2 * PER_MM
