"""Training: it learns, it resumes exactly, it refuses what would lose a run."""

from __future__ import annotations

import dataclasses
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from any2all_core import DiffusionPrior, PriorSettings
from any2all_core.examples import InMemory, places
from any2all_core.network import build_prior
from any2all_core.noise import generator
from any2all_core.recipe import Recipe
from any2all_core.training import Progress, learning_rate, train
from any2all_data.augment import augment
from any2all_operators import UserError
from conftest import MODALITIES, TINY, phantom, write_patient

SETTINGS = PriorSettings(modalities=MODALITIES, image_size=(32, 32))


def slices(count: int = 12) -> torch.Tensor:
    volumes = [torch.from_numpy(phantom(depth=count, seed=k) / 200) for k in range(3)]
    return torch.stack(volumes).permute(3, 0, 1, 2).contiguous()


def run(output: Path, recipe: Recipe = TINY, **options: object) -> list[Progress]:
    seen: list[Progress] = []
    x = slices()
    train(
        InMemory(x),
        x[:4],
        SETTINGS,
        recipe,
        output,
        augment=augment,
        precision="float32",
        **{"report": seen.append, **options},  # type: ignore[arg-type]
    )
    return seen


def test_a_resumed_run_is_the_uninterrupted_one(tmp_path: Path) -> None:
    whole = run(tmp_path / "whole", checkpoint_every=2)

    def stop(progress: Progress) -> None:
        if progress.step == 5:  # one step after the checkpoint at 4
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", checkpoint_every=2, report=stop)
    rest = run(tmp_path / "cut", checkpoint_every=2, resume=True)
    assert [p.step for p in rest] == [5, 6]
    assert [p.loss for p in rest] == [p.loss for p in whole[4:]]
    a, b = (DiffusionPrior.load(tmp_path / name, "float32") for name in ("whole", "cut"))
    for ours, theirs in zip(a.parameters(), b.parameters(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("prediction", ["v", "epsilon"])
def test_it_learns_to_denoise(tmp_path: Path, prediction: str) -> None:
    recipe = dataclasses.replace(
        TINY, prediction=prediction, steps=80, learning_rate=3e-3, ema=0.9, batch_size=8
    )
    seen = run(tmp_path / "run", recipe, checkpoint_every=40)
    first, last = (p.validation for p in seen if p.validation)
    assert last["validation_loss"] < first["validation_loss"]
    assert last["psnr_t150"] > 18


def test_the_folder_says_how_it_was_made(tmp_path: Path) -> None:
    run(tmp_path / "run", checkpoint_every=3)
    prior = DiffusionPrior.load(tmp_path / "run")
    assert prior.modalities == MODALITIES
    assert prior.settings.training["steps"] == 6
    assert prior.settings.training["recipe"]["channels"] == [8, 16]
    log = [json.loads(line) for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in log] == [3, 6]
    assert not list((tmp_path / "run").glob("*.part"))


def test_runs_are_not_mixed(tmp_path: Path) -> None:
    run(tmp_path / "run")
    with pytest.raises(UserError, match="not empty"):
        run(tmp_path / "run")
    with pytest.raises(UserError, match=r"batch_size = 4, given was 8"):
        run(tmp_path / "run", dataclasses.replace(TINY, batch_size=8), resume=True)
    with pytest.raises(UserError, match="has 6 steps already, given was steps=5"):
        run(tmp_path / "run", dataclasses.replace(TINY, steps=5), resume=True)
    with pytest.raises(UserError, match="nothing to resume"):
        run(tmp_path / "other", resume=True)
    other = dataclasses.replace(SETTINGS, modalities=("T1", "T2", "CT"))
    with pytest.raises(UserError, match=r"modalities = \('T1', 'FLAIR', 'T1Gd'\), given was"):
        train(InMemory(slices()), slices()[:4], other, TINY, tmp_path / "run", resume=True)
    assert DiffusionPrior.load(tmp_path / "run").modalities == MODALITIES


def test_a_rate_that_fell_does_not_jump_up_again(tmp_path: Path) -> None:
    recipe = dataclasses.replace(TINY, decay=0.5)
    run(tmp_path / "run", recipe)
    with pytest.raises(UserError, match=r"at step 6 its learning rate falls .* --start-from"):
        run(tmp_path / "run", dataclasses.replace(recipe, steps=12), resume=True)


def test_a_prior_is_trained_on_from_another(tmp_path: Path) -> None:
    run(tmp_path / "first")
    first = DiffusionPrior.load(tmp_path / "first", "float32")
    still = dataclasses.replace(TINY, learning_rate=1e-12, steps=1, ema=0.0)
    run(tmp_path / "still", still, start_from=first)
    second = DiffusionPrior.load(tmp_path / "still", "float32")
    for ours, theirs in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-9)
    assert second.settings.training["start_from"]["steps"] == 6
    assert run(tmp_path / "still", still, start_from=first, resume=True) == []
    with pytest.raises(UserError, match=r"start_from = the prior [0-9a-f]{8}, given was None"):
        run(tmp_path / "still", still, resume=True)
    for change, words in (
        ({"prediction": "epsilon"}, "has prediction v, this training epsilon"),
        ({"channels": (16, 16)}, "network of another size"),
    ):
        with pytest.raises(UserError, match=words):
            run(tmp_path / "new", dataclasses.replace(TINY, **change), start_from=first)
    assert not (tmp_path / "new/checkpoint.pt").exists()


def test_a_prior_lost_between_two_renames_is_written_again(tmp_path: Path) -> None:
    run(tmp_path / "run")
    (tmp_path / "run/prior.json").unlink()
    assert run(tmp_path / "run", resume=True) == []
    assert DiffusionPrior.load(tmp_path / "run").settings.training["steps"] == 6


def test_what_cannot_be_trained_is_told_first(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"30 x 32 don't suit .* multiples of 4, such as 32 x 32"):
        build_prior(TINY, dataclasses.replace(SETTINGS, image_size=(30, 32)))
    with pytest.raises(UserError, match="norm_groups=3"):
        dataclasses.replace(TINY, norm_groups=3)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="choose another --output"):
        run(tmp_path / "file")


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path: Path) -> None:
    x = slices()
    with pytest.raises(UserError, match="step 0: the loss is nan"):
        train(InMemory(x * torch.nan), x[:4], SETTINGS, TINY, tmp_path / "run", precision="float32")


def test_every_slice_is_seen_once_an_epoch() -> None:
    epoch = [place for step in range(3) for place in places(12, 4, step, 0)]
    assert sorted(epoch) == list(range(12))
    assert len(places(3, 4, 5, 0)) == 4  # more than a whole epoch in a batch


def test_the_learning_rate_rises_stays_and_falls() -> None:
    recipe = dataclasses.replace(TINY, steps=100, warmup=10, decay=0.2, learning_rate=1.0)
    rates = [learning_rate(recipe, step) for step in range(100)]
    assert rates[0] == 0.1
    assert rates[9] == rates[79] == 1.0
    assert rates[99] == pytest.approx(0.05)


def test_augmentation_moves_all_modalities_together() -> None:
    x = torch.rand(8, 1, 32, 32).repeat(1, 3, 1, 1)
    y = augment(x, [generator(0, k) for k in range(8)])
    assert y.shape == x.shape
    assert 0 <= float(y.min()) <= float(y.max()) <= 1
    assert not torch.equal(x, y)
    # a slice's changes are its own: the same alone, or elsewhere in a batch
    again = augment(x[5:6], [generator(0, 5)])
    assert torch.allclose(y[5:6], again, atol=1e-6)
    # contrast differs between modalities, position does not: ranks of pixels agree
    a, b = y[0, 0].flatten().argsort(), y[0, 1].flatten().argsort()
    assert float((a == b).float().mean()) > 0.95


def test_a_killed_process_resumes(tmp_path: Path) -> None:
    for k in range(3):
        write_patient(tmp_path / "cohort" / f"p{k}", seed=k)
    command = [
        *(sys.executable, "-m", "any2all_cli", "train"),
        *("--data", str(tmp_path / "cohort"), "--output", str(tmp_path / "run")),
        *("--set", "channels=8+16", "--set", "norm_groups=2", "--set", "batch_size=4"),
        *("--set", "steps=1000000", "--set", "blocks=1"),
    ]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (tmp_path / "run/log.jsonl").exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    state = torch.load(tmp_path / "run/checkpoint.pt", weights_only=True)
    steps = f"steps={state['identity']['step'] + 3}"
    again = subprocess.run(
        [word.replace("steps=1000000", steps) for word in command] + ["--resume"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert again.returncode == 0, again.stderr
    assert (
        DiffusionPrior.load(tmp_path / "run").settings.training["steps"]
        == state["identity"]["step"] + 3
    )
