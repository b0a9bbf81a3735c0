"""What runs on a GPU, on one that is played by the CPU and that no tensor enters unasked."""

from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest
import torch
from any2all_core import DiffusionPrior, PriorSettings, StackFormat
from any2all_core.examples import InMemory
from any2all_core.hardware import choose_device
from any2all_core.loop import TrainingData, TrainingRun
from any2all_core.recipe import Optimizer, Recipe
from any2all_core.training import train
from any2all_operators import (
    UserError,
)
from builders.accelerator import GPU


def in_turn(make: Callable[[int], Any], steps: range, workers: int) -> Generator[Any]:
    yield from map(make, steps)


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["muon", "adam"])
def test_training_on_a_gpu_keeps_everything_there(
    optimizer: Optimizer, played: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slices = torch.rand(6, 2, 32, 32)  # whose loss averages out what bfloat16 rounds
    recipe = Recipe(
        channels=(8,), blocks=1, attention_levels=0, norm_groups=4, steps=3, batch_size=2,
        accumulate=2, warmup=0, optimizer=optimizer,
    )  # fmt: skip
    settings = PriorSettings(StackFormat.of_names(("T1", "FLAIR"), (32, 32)))

    def losses(output: Path) -> list[float]:
        said: list[float] = []
        data = TrainingData(InMemory(slices), slices[:2])
        run = TrainingRun(output, precision="bfloat16", report=lambda p: said.append(p.loss))
        train(data, settings, recipe, run)
        return said

    expected = losses(tmp_path / "cpu")
    monkeypatch.setattr("accelerate.Accelerator.device", GPU)
    # of which another thread would know nothing
    monkeypatch.setattr("any2all_core.loop.ahead", in_turn)
    # which looks at the device's name for whether it has a fused kernel
    adam = torch.optim.Adam
    monkeypatch.setattr(torch.optim, "Adam", lambda p, lr, fused: adam(p, lr, foreach=True))
    assert losses(tmp_path / "gpu") == pytest.approx(expected, rel=1e-3)
    assert DiffusionPrior.load(tmp_path / "gpu").device.type == "cpu"


def test_unknown_device_is_a_users_mistake() -> None:
    with pytest.raises(UserError, match=r"device 'nonsense' can't be used .* use auto, cpu"):
        choose_device("nonsense")
    assert choose_device("cpu") == torch.device("cpu")


def test_more_processes_than_gpus_share_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("LOCAL_RANK", "3")
    with pytest.raises(UserError, match="device 'cuda:1' can't be used"):  # there is none here
        choose_device("auto")
