"""A mistake that names and folders show is reported before anything heavy is imported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from any2all_cli import first_checks
from any2all_cli.first_checks import check_output_is_free, check_plugin_names
from any2all_core import checkpoint
from any2all_operators import UserError, valid_names
from builders.command_line import Run

COMMANDS = (
    ("sample", "--input", "nowhere", "--modalities", "T1=clean"),
    ("train", "--data", "nowhere"),
    ("evaluate", "mixed", "--input", "nowhere"),
    ("import", "diffusers", "nowhere", "--modalities", "T1"),
)
IN_TURN = """
import sys
from any2all_cli.main import main
for command in sys.argv[1].split(";"):
    sys.argv = ["any2all", *command.split()]
    try:
        main()
    except SystemExit as stop:
        print(stop.code, "torch" in sys.modules)
"""


def test_every_command_refuses_a_full_folder_without_importing_torch(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full/report.json").touch()
    asked = ";".join(" ".join((*command, "--output", "full")) for command in COMMANDS)
    command = [sys.executable, "-c", IN_TURN, asked]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=60)
    assert done.stdout.splitlines() == ["2 False"] * len(COMMANDS), done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) == len(COMMANDS)
    assert all(line.startswith("any2all: --output full: holds other results") for line in lines)


def test_what_may_be_written_into(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = tmp_path / "full"
    full.mkdir()
    check_output_is_free({"output": full})
    check_output_is_free({"output": tmp_path / "new"})
    (full / "log.jsonl").touch()
    check_output_is_free({"output": full})  # of a training before its first checkpoint
    (full / "prior.json").touch()
    check_output_is_free({"output": full, "resume": True})
    check_output_is_free({"output": full / "prior.json"})  # a file, as that of plan
    monkeypatch.setenv("RANK", "1")
    check_output_is_free({"output": full})  # the first process made it
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(FileExistsError, match="choose another folder, or --resume"):
        check_output_is_free({"output": full, "resume": False})


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"sampler": "mdss:steps=3"}, "unknown sampler 'mdss'; did you mean mds?"),
        ({"sampler": "msd"}, "unknown sampler 'msd'; did you mean mds?"),
        ({"sampler": ["mds", "mdss"]}, "unknown sampler 'mdss'"),
        ({"prior": "lg"}, "unknown prior 'lg'; did you mean lgg?"),
        ({"modalities": "T1=clean,FLAIR=kspac:coils=4"}, "unknown operator 'kspac'"),
    ],
)
def test_unknown_names_are_refused(options: dict[str, object], said: str) -> None:
    with pytest.raises(UserError) as told:
        check_plugin_names(options)
    assert said in str(told.value)


def test_names_that_are_no_plugins_are_left_to_the_command(tmp_path: Path) -> None:
    qualified = {"sampler": "any2all-samplers:mds:steps=2", "modalities": "T1,FLAIR"}
    check_plugin_names({"prior": "hf:owner/name"} | qualified)
    check_plugin_names({"prior": str(tmp_path), "sampler": None, "modalities": None})


def test_unknown_modalities_are_refused_before_the_patient_is_read(
    any2all: Run, prior_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "p").mkdir()
    (tmp_path / "p/T1.nii.gz").write_bytes(b"no image")
    asked = ("sample", "--prior", prior_folder, "--input", "p", "--modalities", "flare=clean")
    done = any2all(*asked)
    assert done.returncode == 2
    assert "unknown modality flare; did you mean FLAIR?" in done.stderr


def test_the_closest_name_comes_before_a_list_that_is_cut() -> None:
    names = [f"name{k}=1 (int)" for k in range(20)]
    said = valid_names("nam19", names, "its options:", "any2all plugins x")
    assert said.startswith("; did you mean name19? Its options: name0=1 (int), name1=1 (int), ")
    assert said.endswith("name11=1 (int) and 8 more (any2all plugins x lists all)")
    assert valid_names("q", ["a", "b"], "installed:") == "; installed: a, b"
    assert valid_names("q", [], "installed:") == "; installed: none"


def test_what_may_be_written_over_is_what_training_writes_over() -> None:
    assert first_checks.LEFT_OVER == checkpoint.LEFT_OVER, "written twice, as one imports torch"
