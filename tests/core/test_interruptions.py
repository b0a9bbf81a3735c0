"""Training that is killed, stopped or resumed loses nothing and ends as if uninterrupted."""

from __future__ import annotations

import dataclasses
import json
import os
import resource
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from any2all_core import DiffusionPrior
from any2all_core.examples import InMemory
from any2all_core.loop import Progress, Stopped, TrainingData, TrainingRun
from any2all_core.testing import MODALITIES, TINY_RECIPE
from any2all_core.training import train
from any2all_operators import UserError
from builders.trainings import SETTINGS, in_float32, of_images, run, slices


def wait_for(path: Path) -> None:
    until = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < until
        time.sleep(0.01)


@pytest.mark.slow
def test_a_resumed_run_is_the_uninterrupted_one(tmp_path: Path) -> None:
    whole = run(tmp_path / "whole", checkpoint_every=2, validate_every=2)

    def stop(progress: Progress) -> None:
        if progress.step == 5:  # one step after the checkpoint at 4
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", checkpoint_every=2, validate_every=2, report=stop)
    rest = run(tmp_path / "cut", checkpoint_every=2, validate_every=2, resume=True)
    assert [p.step for p in rest] == [5, 6]
    assert [p.loss for p in rest] == [p.loss for p in whole[4:]]
    a, b = (DiffusionPrior.load(tmp_path / name, "float32") for name in ("whole", "cut"))
    for ours, theirs in zip(a.parameters(), b.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_slow_steps_are_saved_by_the_clock(tmp_path: Path) -> None:
    def stop(progress: Progress) -> None:
        if progress.step == 3:
            raise KeyboardInterrupt

    seldom: dict[str, Any] = {"checkpoint_every": 100, "validate_every": 100}
    for minutes in (0, 10):
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / f"{minutes}", checkpoint_minutes=minutes, report=stop, **seldom)
    assert not (tmp_path / "10/checkpoint.pt").exists()
    assert run(tmp_path / "0", resume=True)[0].step == 4


def test_runs_are_not_mixed(tmp_path: Path) -> None:
    run(tmp_path / "run")
    with pytest.raises(UserError, match="not empty"):
        run(tmp_path / "run")
    with pytest.raises(UserError, match=r"batch_size = 4, not 8"):
        run(tmp_path / "run", dataclasses.replace(TINY_RECIPE, batch_size=8), resume=True)
    with pytest.raises(UserError, match="has 6 steps already, more than steps=5"):
        run(tmp_path / "run", dataclasses.replace(TINY_RECIPE, steps=5), resume=True)
    with pytest.raises(UserError, match="nothing to resume"):
        run(tmp_path / "other", resume=True)
    other = of_images(("T1", "T2", "CT"))
    data = TrainingData(InMemory(slices()), slices()[:4])
    with pytest.raises(UserError, match=r"modalities = \('T1', 'FLAIR', 'T1Gd'\), not"):
        train(data, other, TINY_RECIPE, TrainingRun(tmp_path / "run", resume=True))
    assert DiffusionPrior.load(tmp_path / "run").modalities == MODALITIES


def test_a_run_from_before_levels_and_muon_goes_on(tmp_path: Path) -> None:
    recipe = dataclasses.replace(TINY_RECIPE, levels="shared", optimizer="adam", coarse=0.0)
    run(tmp_path / "run", dataclasses.replace(recipe, steps=3, decay=0.0))
    path = tmp_path / "run/checkpoint.pt"
    state = torch.load(path, weights_only=True)
    for name in ("levels", "questions", "optimizer", "matrix_rate", "coarse"):
        del state["identity"]["recipe"][name]
    torch.save(state, path)
    with pytest.raises(UserError, match="its run has levels = shared, not separate"):
        run(tmp_path / "run", dataclasses.replace(TINY_RECIPE, decay=0.0), resume=True)
    rest = run(tmp_path / "run", dataclasses.replace(recipe, decay=0.0), resume=True)
    assert [p.step for p in rest] == [4, 5, 6]


def test_a_prior_lost_between_two_renames_is_written_again(tmp_path: Path) -> None:
    run(tmp_path / "run")
    (tmp_path / "run/prior.json").unlink()
    assert run(tmp_path / "run", resume=True) == []
    assert DiffusionPrior.load(tmp_path / "run").settings.training["steps"] == 6


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path: Path) -> None:
    x = slices()
    spoilt = x.clone()
    spoilt[..., 5, 5] = torch.nan
    data = TrainingData(InMemory(spoilt), x[:4])
    with pytest.raises(UserError, match="step 0: the loss is nan"):
        train(data, SETTINGS, TINY_RECIPE, in_float32(tmp_path / "run"))


def _in_a_fork(work: Callable[[], object]) -> int:
    """A process of its own, begun at once; its number."""
    process = os.fork()
    if process:
        return process
    try:
        work()
        os._exit(0)
    except Stopped as stopped:
        os._exit(128 + stopped.signal)
    except KeyboardInterrupt:
        os._exit(3)
    except UserError as error:
        print(error, file=sys.stderr, flush=True)
        os._exit(2)
    finally:
        os._exit(1)


def _end(process: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


@pytest.mark.slow
def test_killed_at_any_moment_it_ends_as_if_it_had_not_been(tmp_path: Path) -> None:
    """Twenty kills, at random, some while a checkpoint is written: the same weights exactly."""
    recipe = dataclasses.replace(TINY_RECIPE, steps=120, warmup=5)
    options: dict[str, Any] = {"checkpoint_every": 2, "validate_every": 60}
    run(tmp_path / "whole", recipe, **options)
    cut, random, kills, writing = tmp_path / "cut", np.random.default_rng(0), 0, 0
    while True:
        resume = (cut / "checkpoint.pt").exists()
        if not resume:
            shutil.rmtree(cut, ignore_errors=True)
        process = _in_a_fork(lambda: run(cut, recipe, resume=resume, **options))  # noqa: B023
        if kills < 20:
            before = (cut / "checkpoint.pt").stat().st_mtime_ns if resume else 0
            until = time.monotonic() + 60
            while not (cut / "checkpoint.pt").exists() or (
                (cut / "checkpoint.pt").stat().st_mtime_ns == before
            ):
                assert time.monotonic() < until
                time.sleep(0.001)
            if kills % 2:  # the next time that a checkpoint is being written
                while not (cut / "checkpoint.pt.part").exists() and time.monotonic() < until:
                    if os.waitpid(process, os.WNOHANG) != (0, 0):
                        break
            else:
                time.sleep(random.uniform(0, 0.05))
            writing += (cut / "checkpoint.pt.part").exists()
            try:
                os.kill(process, signal.SIGKILL)
            except ProcessLookupError:
                break
            kills += 1
            _end(process)
        else:
            assert _end(process) == 0
            break
    assert kills == 20
    assert writing >= 5
    a, b = (DiffusionPrior.load(tmp_path / name, "float32") for name in ("whole", "cut"))
    for ours, theirs in zip(a.parameters(), b.parameters(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.slow
@pytest.mark.parametrize("asked", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_leaves(tmp_path: Path, asked: signal.Signals) -> None:
    recipe = dataclasses.replace(TINY_RECIPE, steps=1_000_000)

    def work() -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        run(tmp_path / "run", recipe, checkpoint_every=4, validate_every=4)

    process = _in_a_fork(work)
    wait_for(tmp_path / "run/log.jsonl")
    os.kill(process, asked)
    assert _end(process) == 128 + asked
    log = [json.loads(line) for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    state = torch.load(tmp_path / "run/checkpoint.pt", weights_only=True)
    assert state["identity"]["step"] == log[-1]["step"]
    assert not list((tmp_path / "run").glob("*.part"))


def test_ctrl_c_is_ignored_in_a_shells_background(tmp_path: Path) -> None:
    def work() -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        run(tmp_path / "run", dataclasses.replace(TINY_RECIPE, steps=8), checkpoint_every=2)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN

    process = _in_a_fork(work)
    wait_for(tmp_path / "run/log.jsonl")
    os.kill(process, signal.SIGINT)
    assert _end(process) == 0


def test_a_folder_without_a_checkpoint_is_a_fresh_one(tmp_path: Path) -> None:
    for name in ("tensorboard", "draws"):
        (tmp_path / "run" / name).mkdir(parents=True)
    run(tmp_path / "run")
    (tmp_path / "other").mkdir()
    (tmp_path / "other/notes.txt").touch()
    with pytest.raises(UserError, match="not empty"):
        run(tmp_path / "other")


@pytest.mark.slow
def test_a_full_disk_leaves_the_checkpoint_before(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def fill(progress: Progress) -> None:
        if progress.step == 4:  # a limit on files stands for the end of the disk
            resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))

    def work() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        run(tmp_path / "run", checkpoint_every=3, validate_every=3, report=fill)

    assert _end(_in_a_fork(work)) == 2
    said = capfd.readouterr().err
    assert "step 6 can't be saved (" in said
    assert "make room, then --resume" in said
    assert [p.step for p in run(tmp_path / "run", resume=True)] == [4, 5, 6]
