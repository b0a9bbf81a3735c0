"""What prepare says of who is who."""

from __future__ import annotations

from pathlib import Path

import pytest
from builders.command_line import Run
from builders.dicom import save
from builders.patients import write_patient
from builders.people import ANNEX, LFS, prepared_entry, scan_of


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("link", "link without its file; run datalad get"),
        (ANNEX, "link without its file; run datalad get"),
        ("/annex/objects/MD5E-s9--abc.nii.gz\n", "link without its file; run datalad get"),
        (LFS, "Git LFS pointer without its file; run git lfs pull"),
        ("", "its file is empty; copy it again"),
    ],
)
def test_an_image_that_is_not_there_costs_itself_alone(
    any2all: Run, tmp_path: Path, kind: str, said: str
) -> None:
    source = write_patient(tmp_path / "source/a")
    (source / "FLAIR.nii.gz").unlink()
    if kind == "link":
        (source / "FLAIR.nii.gz").symlink_to(ANNEX)
    else:
        (source / "FLAIR.nii.gz").write_text(kind)
    entry = prepared_entry(tmp_path / "source", tmp_path / "c")
    assert entry.present == ["T1"]
    assert entry.left_out["FLAIR"].startswith(said)
    shown = " ".join(any2all("prepare", "--dry-run", "source").stdout.split())
    assert f"FLAIR: {said}"[:30] in shown


def test_a_dry_run_says_what_was_kept_apart_without_names(any2all: Run, tmp_path: Path) -> None:
    for k in range(2):
        save(tmp_path / f"s/{k}", scan_of("ANONYMOUS", f"1.2.{k + 3}"))
    shown = any2all("prepare", "--dry-run", "s")
    assert shown.returncode == 0, shown.stderr
    assert "a PatientID is generic; each of its 2 studies becomes a patient" in shown.stderr
    assert "ANONYMOUS" not in shown.stdout + shown.stderr
    assert "ANONYMOUS" in any2all("prepare", "--dry-run", "--show-names", "s").stdout
