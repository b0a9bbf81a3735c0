"""What is said of a method when its training has ended."""

import json
from pathlib import Path

import pytest
import torch
from any2all_app.judging import judge_method
from any2all_core.examples import InMemory
from any2all_core.fitting import fit
from any2all_core.loop import TrainingData, TrainingRun
from any2all_core.method import MethodSettings
from any2all_core.named_methods import make_method
from any2all_core.stack_format import StackFormat
from builders.observers import Said


@pytest.fixture
def method(tmp_path: Path) -> tuple[Path, torch.Tensor]:
    """The folder of a method after two steps, and held-out slices."""
    slices = torch.rand(6, 2, 16, 16, generator=torch.Generator().manual_seed(0))
    settings = MethodSettings(StackFormat.of_names(("T1", "FLAIR"), (16, 16)))
    of = make_method("regressor", {"steps": "2", "batch_size": "2"}, "tiny")
    data = TrainingData(InMemory(slices[:3]), slices[3:])
    fit(of, data, settings, TrainingRun(tmp_path / "run"), name="any2all-baselines:regressor")
    return tmp_path / "run", slices[3:]


def test_a_run_that_lost_what_it_had_learnt_is_said_to_have(
    method: tuple[Path, torch.Tensor],
) -> None:
    folder, held_out = method
    heard = Said()
    judge_method(folder, held_out, heard)
    assert not [line for line in heard.said if "became worse" in line]
    told = json.loads((folder / "best/method.json").read_text())
    told["training"]["validation_loss"] /= 2
    told["training"]["steps"] = 1
    (folder / "best/method.json").write_text(json.dumps(told))
    judge_method(folder, held_out, heard)
    (line,) = [line for line in heard.said if "became worse" in line]
    assert "at step 1" in line
    assert f"Use {folder / 'best'}" in line


def test_its_answers_are_kept_beside_copies(method: tuple[Path, torch.Tensor]) -> None:
    folder, held_out = method
    judge_method(folder, held_out, Said())
    for path in (folder / "method.json", folder / "best/method.json"):
        found = json.loads(path.read_text())["training"]["missing"]
        assert set(found) == {"T1", "FLAIR"}
        answer, copy = found["T1"]["FLAIR"]
        assert answer > 0
        assert copy > 0
