"""What prepare says of a choice it could not make."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from any2all_data.ranking import UNDECIDED
from any2all_data.store import CohortStore
from builders.command_line import Run
from builders.nifti import write_head

pytestmark = pytest.mark.slow


def test_an_undecided_choice_is_said_and_kept(any2all: Run, tmp_path: Path) -> None:
    """By prepare itself, with what was used over what; not of a copy; no name in the cohort."""
    for patient in ("Ada", "Eva", "Ida"):
        for k in range(1 + (patient != "Ida")):
            write_head(
                tmp_path / f"s/{patient}/{patient}_T1_{'ab'[k]}.nii.gz", seed=k * (patient == "Ada")
            )
    done = any2all("prepare", "s", "c", "--spacing", "native", "--size", 32, "--workers", 1)
    assert done.returncode == 0, done.stderr
    entries = CohortStore.open(str(tmp_path / "c")).patients()
    (ada,) = [p for p, e in entries.items() if e.warnings]
    assert f"{ada}: T1: another image could also be used, and {UNDECIDED}" in done.stderr
    used, other = entries[ada].choices["T1"]
    assert used[1] == "used"
    assert other[1] == UNDECIDED
    assert used[0] != other[0]
    whys = sorted(e.choices["T1"][1][1] for e in entries.values() if "T1" in e.choices)
    assert whys == ["it is a copy", UNDECIDED]
    assert "32 x 32 x 6 voxels of 1.5 x 1.5 x 4 mm" in used[0]
    assert "Ada" not in json.dumps([e.choices for e in entries.values()])
    shown = any2all("prepare", "--dry-run", "--show-names", "s")
    assert f"Ada: T1: another image could also be used, and {UNDECIDED}" in shown.stderr
