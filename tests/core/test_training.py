"""Training: it learns, it resumes exactly, it refuses what would lose a run."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import re
import resource
import shutil
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from any2all_core import DiffusionPrior, PriorSettings, StackFormat
from any2all_core.examples import InMemory, places
from any2all_core.loop import Augment, Progress, Stopped, TrainingData, TrainingRun, learning_rate
from any2all_core.network import build_prior
from any2all_core.noise import generator
from any2all_core.objective import loss, noised, validate
from any2all_core.prior_settings import Levels, Prediction
from any2all_core.recipe import Recipe, read_recipe
from any2all_core.testing import MODALITIES, TINY_RECIPE, patient_stack
from any2all_core.training import at_half_size, train
from any2all_operators import UserError

SETTINGS = PriorSettings(StackFormat.of_names(MODALITIES, (32, 32)))


def of_images(names: tuple[str, ...], size: tuple[int, int] = (32, 32)) -> PriorSettings:
    return PriorSettings(StackFormat.of_names(names, size))


def slices(count: int = 12) -> torch.Tensor:
    return patient_stack(depth=count)


def flipped(x_0: torch.Tensor, generators: Sequence[torch.Generator]) -> torch.Tensor:
    """An augmentation: each slice is turned left-right where its own generator says so."""
    turn = [float(torch.rand((), generator=generator)) < 0.5 for generator in generators]
    return torch.stack([x.flip(-1) if t else x for x, t in zip(x_0, turn, strict=True)])


def in_float32(output: Path) -> TrainingRun:
    return TrainingRun(output, precision="float32")


def run(
    output: Path,
    recipe: Recipe = TINY_RECIPE,
    augment: Augment = flipped,
    start_from: DiffusionPrior | None = None,
    **options: Any,
) -> list[Progress]:
    """options: of a TrainingRun."""
    seen: list[Progress] = []
    x = slices()
    data = TrainingData(InMemory(x), x[:4], augment)
    here = TrainingRun(output, **{"report": seen.append, "precision": "float32", **options})
    train(data, SETTINGS, recipe, here, start_from=start_from)
    return seen


@pytest.mark.slow
def test_coarse_steps_take_images_of_half_the_size(tmp_path: Path) -> None:
    x = torch.rand(2, 3, 20, 26)
    half = at_half_size(x)
    assert half.shape == (2, 3, 10, 13)
    torch.testing.assert_close(half.mean(), x.mean())
    torch.testing.assert_close(half[0, 0, 0, 0], x[0, 0, :2, :2].mean())
    torch.testing.assert_close(at_half_size(x[..., 1:])[0, 0, 0, -1], x[0, 0, :2, -1].mean())
    recipe = dataclasses.replace(TINY_RECIPE, coarse=0.5)
    seen = run(tmp_path / "whole", recipe)
    fine = run(tmp_path / "fine", dataclasses.replace(TINY_RECIPE, coarse=0.0))
    assert all(a.loss != b.loss for a, b in zip(seen[:3], fine, strict=False))

    def stop(progress: Progress) -> None:
        if progress.step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", recipe, checkpoint_every=2, report=stop)
    rest = run(tmp_path / "cut", recipe, checkpoint_every=2, resume=True)
    assert [p.loss for p in rest] == [p.loss for p in seen[2:]]
    with pytest.raises(UserError, match=r"coarse=1.5, expected 0 to 1"):
        dataclasses.replace(TINY_RECIPE, coarse=1.5)


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


@pytest.mark.slow
@pytest.mark.parametrize("prediction", ["v", "epsilon"])
def test_it_learns_to_denoise(tmp_path: Path, prediction: Prediction) -> None:
    levels: Levels = "shared" if prediction == "epsilon" else "separate"
    recipe = dataclasses.replace(
        TINY_RECIPE, prediction=prediction, levels=levels, steps=80, learning_rate=3e-3, ema=0.9,
        batch_size=8,
    )  # fmt: skip
    seen = run(tmp_path / "run", recipe, checkpoint_every=4, validate_every=40)
    first, last = (p.validation for p in seen if p.validation)
    assert last["validation_loss"] < first["validation_loss"]
    assert last["psnr_t150"] > 18


def test_the_folder_says_how_it_was_made(tmp_path: Path) -> None:
    run(tmp_path / "run", checkpoint_every=3, validate_every=3)
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


def test_a_rate_that_fell_does_not_jump_up_again(tmp_path: Path) -> None:
    recipe = dataclasses.replace(TINY_RECIPE, decay=0.5)
    run(tmp_path / "run", recipe)
    with pytest.raises(UserError, match=r"at step 6 its learning rate falls .* --start-from"):
        run(tmp_path / "run", dataclasses.replace(recipe, steps=12), resume=True)


@pytest.mark.slow
def test_a_prior_is_trained_on_from_another(tmp_path: Path) -> None:
    run(tmp_path / "first")
    first = DiffusionPrior.load(tmp_path / "first", "float32")
    still = dataclasses.replace(
        TINY_RECIPE, learning_rate=1e-12, matrix_rate=1e-12, steps=1, ema=0.0
    )
    run(tmp_path / "still", still, start_from=first)
    second = DiffusionPrior.load(tmp_path / "still", "float32")
    for ours, theirs in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-9)
    assert second.settings.training["start_from"]["steps"] == 6
    assert run(tmp_path / "still", still, start_from=first, resume=True) == []
    assert run(tmp_path / "still", still, resume=True) == []
    with pytest.raises(UserError, match=r"start_from = the prior [0-9a-f]{8}, not the prior"):
        run(tmp_path / "still", still, start_from=build_prior(TINY_RECIPE, SETTINGS), resume=True)
    longer = dataclasses.replace(still, steps=2, decay=0.0)
    run(tmp_path / "longer", dataclasses.replace(longer, steps=1), start_from=first)
    run(tmp_path / "longer", longer, resume=True)
    origin = DiffusionPrior.load(tmp_path / "longer").settings.training["start_from"]
    assert origin["steps"] == 6
    for change, words in (
        ({"prediction": "sample"}, "has prediction v, but this training sample"),
        (
            {"levels": "shared"},
            "a noise level for each modality, but this training has one for all",
        ),
        ({"channels": (16, 16)}, "network of another size"),
        ({"norm_groups": 1}, "network of another size"),
    ):
        with pytest.raises(UserError, match=words):
            run(tmp_path / "new", dataclasses.replace(TINY_RECIPE, **change), start_from=first)
    assert not (tmp_path / "new/checkpoint.pt").exists()


def test_a_prior_of_other_modalities_begins_with_what_is_shared(tmp_path: Path) -> None:
    run(tmp_path / "first")
    first = DiffusionPrior.load(tmp_path / "first", "float32")
    settings = of_images(("CT", MODALITIES[2], MODALITIES[0]))
    still = dataclasses.replace(
        TINY_RECIPE, learning_rate=1e-12, matrix_rate=1e-12, steps=1, ema=0.0
    )
    x = slices()
    data = TrainingData(InMemory(x), x[:4])
    train(data, settings, still, in_float32(tmp_path / "second"), start_from=first)
    second = DiffusionPrior.load(tmp_path / "second", "float32")
    stack = torch.randn(2, 3, 32, 32, generator=generator(3))
    t = torch.tensor([[100, 800, 0], [900, 999, 300]])
    found = second.predict(stack, t)
    # as if the first prior were blind to the modality that is not shared, and to its level
    weight = first.unet.get_parameter("conv_in.weight")
    parts = SETTINGS.patch**2
    weight[:, parts : 2 * parts] = 0
    weight[:, 3 * parts + 1] = 0
    expected = first.predict(stack[:, [2, 0, 1]], t[:, [2, 0, 1]])
    assert torch.allclose(found[:, 2], expected[:, 0], atol=1e-5)
    assert torch.allclose(found[:, 1], expected[:, 2], atol=1e-5)
    assert found[:, 0].abs().max() < 1e-5
    strange = of_images(("CT", "PET", "SPECT"))
    with pytest.raises(UserError, match="nothing in common"):
        train(data, strange, still, in_float32(tmp_path / "third"), start_from=first)


def test_a_prior_lost_between_two_renames_is_written_again(tmp_path: Path) -> None:
    run(tmp_path / "run")
    (tmp_path / "run/prior.json").unlink()
    assert run(tmp_path / "run", resume=True) == []
    assert DiffusionPrior.load(tmp_path / "run").settings.training["steps"] == 6


def test_what_cannot_be_trained_is_told_first(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"2 x 32 are too small for a network of 2 levels"):
        build_prior(TINY_RECIPE, of_images(MODALITIES, (2, 32)))
    with pytest.raises(UserError, match="norm_groups=3"):
        dataclasses.replace(TINY_RECIPE, norm_groups=3)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="choose another --output"):
        run(tmp_path / "file")


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path: Path) -> None:
    x = slices()
    spoilt = x.clone()
    spoilt[..., 5, 5] = torch.nan
    data = TrainingData(InMemory(spoilt), x[:4])
    with pytest.raises(UserError, match="step 0: the loss is nan"):
        train(data, SETTINGS, TINY_RECIPE, in_float32(tmp_path / "run"))


def test_every_slice_is_seen_once_an_epoch() -> None:
    epoch = [place for step in range(3) for place in places(12, 4, step, 0)]
    assert sorted(epoch) == list(range(12))
    assert len(places(3, 4, 5, 0)) == 4  # more than a whole epoch in a batch


def test_the_learning_rate_rises_stays_and_falls() -> None:
    recipe = dataclasses.replace(TINY_RECIPE, steps=100, warmup=10, decay=0.2, learning_rate=1.0)
    rates = [learning_rate(recipe, step) for step in range(100)]
    assert rates[0] == 0.1
    assert rates[9] == rates[79] == 1.0
    assert rates[99] == pytest.approx(0.05)


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


@pytest.mark.slow
def test_the_best_prior_is_kept(tmp_path: Path) -> None:
    """From step 25 on it is shown negatives, and gets worse."""
    recipe = dataclasses.replace(TINY_RECIPE, steps=40, learning_rate=0.01, decay=0.0, ema=0.0)
    step = itertools.count()

    def spoilt(x_0: torch.Tensor, _: object) -> torch.Tensor:
        return x_0 if next(step) < 25 else 1 - x_0

    run(tmp_path / "run", recipe, checkpoint_every=5, validate_every=5, augment=spoilt)
    log = [json.loads(line) for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    losses = {entry["step"]: entry["validation_loss"] for entry in log}
    best = DiffusionPrior.load(tmp_path / "run/best").settings.training
    assert best["steps"] == min(losses, key=losses.get)  # type: ignore[arg-type]
    assert 5 < best["steps"] <= 25


def test_recipes_are_files(tmp_path: Path) -> None:
    assert read_recipe("small") == Recipe()
    assert read_recipe("paper").steps == 1_500_000
    assert read_recipe("paper").prediction == "epsilon"
    own = tmp_path / "own.toml"
    own.write_text('prediction = "sample"\nmin_snr = 5\nchannels = [8, 16]\nnorm_groups = 2\n')
    recipe = read_recipe(own)
    assert (recipe.prediction, recipe.min_snr, recipe.channels) == ("sample", 5.0, (8, 16))
    for text, words in {
        "chanels = [8]": "own.toml: chanels is unknown; there are prediction, levels, questions",
        "steps = 1.5": "own.toml: steps = 1.5; expected a whole number",
        "channels = 8": "expected a list of numbers",
        "channels = [8.5]": "expected a whole number",
        "questions = [1, 0]": "expected the shares of joint, given, mean, mixed, apart",
        'prediction = "epsilon"': "levels=separate with prediction=epsilon",
        "steps = true": "expected a whole number",
        'prediction = "x"': "prediction=x, expected epsilon, v, sample",
        "steps = ": "not readable as TOML",
    }.items():
        own.write_text(text)
        with pytest.raises(UserError, match=re.escape(words)):
            read_recipe(own)


def test_held_out_loss_does_not_depend_on_the_order_of_patients() -> None:
    """A network that says v = 0 errs by ᾱ on grey images, by 1 on white ones: E‖v‖² over t."""
    prior = build_prior(TINY_RECIPE, SETTINGS)
    for weights in prior.parameters():
        torch.nn.init.zeros_(weights)
    grey = torch.full((32, len(MODALITIES), 32, 32), 0.5)
    white = torch.ones_like(grey)
    signal = float(prior.schedule.alpha_bar.mean())
    for patients in ((grey, white), (white, grey)):
        found = validate(prior, torch.cat(patients))["validation_loss"]
        assert found == pytest.approx((1 + signal) / 2, rel=5e-3)


@pytest.mark.parametrize("prediction", ["epsilon", "v", "sample"])
def test_all_targets_mean_one_error_under_min_snr(prediction: Prediction) -> None:
    """With w = min(SNR, γ) on x_0's error, the same x̂_0 costs the same however it is predicted."""
    random = torch.Generator().manual_seed(0)
    x_0, noise, wrong = (torch.randn(6, 2, 8, 8, generator=random) for _ in range(3))
    alpha_bar = torch.tensor([0.999, 0.9, 0.7, 0.5, 0.1, 0.01, 0.8, 0.6, 0.4, 0.3, 0.2, 0.05])
    alpha_bar = alpha_bar.view(6, 2)
    asked = torch.arange(12).view(6, 2) % 3 > 0
    signal_, spread = (a[:, :, None, None] for a in (alpha_bar.sqrt(), (1 - alpha_bar).sqrt()))
    x_t = noised(x_0, noise, alpha_bar)
    x_0_hat = x_0 + 0.1 * wrong
    epsilon_hat = (x_t - signal_ * x_0_hat) / spread
    out = {
        "sample": x_0_hat,
        "epsilon": epsilon_hat,
        "v": signal_ * epsilon_hat - spread * x_0_hat,
    }[prediction]
    snr = alpha_bar / (1 - alpha_bar)
    each = snr.clamp(max=5) * (0.1 * wrong).square().mean((2, 3))
    expected = each[asked].sum() / asked.numel()
    found = loss(out, x_0, noise, alpha_bar, asked=asked, prediction=prediction, min_snr=5.0)
    assert float(found) == pytest.approx(float(expected), rel=1e-4)
