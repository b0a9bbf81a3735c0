"""Training: it learns, and it refuses what cannot be trained."""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
from pathlib import Path

import pytest
import torch
from any2all_core import DiffusionPrior
from any2all_core.examples import InMemory, places
from any2all_core.loop import Progress, TrainingData, learning_rate
from any2all_core.network import build_prior
from any2all_core.noise import generator
from any2all_core.objective import loss, noised, validate
from any2all_core.prior_settings import Levels, Prediction
from any2all_core.recipe import Recipe, read_recipe
from any2all_core.testing import MODALITIES, TINY_RECIPE
from any2all_core.training import at_half_size, train
from any2all_operators import UserError
from builders.trainings import SETTINGS, in_float32, of_images, run, slices


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


def test_what_cannot_be_trained_is_told_first(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"2 x 32 are too small for a network of 2 levels"):
        build_prior(TINY_RECIPE, of_images(MODALITIES, (2, 32)))
    with pytest.raises(UserError, match="norm_groups=3"):
        dataclasses.replace(TINY_RECIPE, norm_groups=3)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="choose another --output"):
        run(tmp_path / "file")


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
