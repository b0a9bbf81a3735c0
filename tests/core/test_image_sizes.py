"""Images of any size: the network mirrors their edges and crops its output."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from any2all_core import DiffusionPrior, PriorSettings, reconstruct
from any2all_core.examples import InMemory
from any2all_core.loop import TrainingData, TrainingRun
from any2all_core.network import build_prior
from any2all_core.padding import mirrored
from any2all_core.recipe import Recipe
from any2all_core.stack_format import StackFormat
from any2all_core.testing import TINY_RECIPE, tiny_prior
from any2all_core.training import train
from any2all_operators import BlockDiagonal, Identity, UserError
from torch import Tensor, nn


def test_what_fits_is_not_touched_and_what_does_not_is_mirrored() -> None:
    x = torch.rand(2, 3, 12, 10)
    same, inside = mirrored(x, 2)
    assert same is x
    assert torch.equal(same[inside], x)
    larger, inside = mirrored(x, 8)
    assert larger.shape == (2, 3, 16, 16)
    assert torch.equal(larger[inside], x)
    assert torch.equal(larger[..., 1, 3:13], x[..., 1, :])  # of the row beyond the edge
    assert torch.equal(larger[..., 2:14, 14], x[..., 7])


@pytest.mark.parametrize("size", [(32, 32), (30, 32), (17, 23)])
def test_any_size_is_denoised_and_has_a_gradient(size: tuple[int, int]) -> None:
    prior = tiny_prior(image_size=size, levels="separate")
    assert prior.multiple == 4
    x_t = torch.randn(2, 3, *size, requires_grad=True)
    x_0_hat = prior.denoise(x_t, (0, 999, 500))
    assert x_0_hat.shape == x_t.shape
    (gradient,) = torch.autograd.grad(x_0_hat.square().sum(), x_t)
    assert gradient.isfinite().all()
    assert float(gradient[:, 0].abs().sum()) > 0


def test_a_size_that_fits_has_the_digits_of_the_network_alone() -> None:
    prior = tiny_prior()
    x_t = torch.randn(1, 3, 32, 32)
    patches = nn.functional.pixel_unshuffle(x_t, 2).contiguous(memory_format=torch.channels_last)
    alone = nn.functional.pixel_shuffle(prior.unet(patches, torch.tensor([300])).sample, 2)
    assert torch.equal(prior.predict(x_t, torch.tensor([300])), alone)


class Halving(nn.Module):
    """A network that is not of diffusers, and fails on sizes that it can't halve."""

    def __init__(self) -> None:
        super().__init__()
        halve = nn.Conv2d(2, 2, 2, stride=2)
        self.down_blocks = nn.ModuleList([halve, nn.Identity()])

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        halved = self.down_blocks[0](x)
        return x + nn.functional.interpolate(halved, scale_factor=2.0)


def test_a_network_of_another_kind_is_padded_for_too() -> None:
    settings = PriorSettings(StackFormat.of_names(("T1", "FLAIR"), (9, 14)), patch=1)
    prior = DiffusionPrior(Halving(), settings)
    assert prior.multiple == 2
    assert prior.denoise(torch.randn(1, 2, 9, 14), 10).shape == (1, 2, 9, 14)


@pytest.mark.slow
def test_a_prior_of_an_odd_size_is_trained_on_real_pixels_and_draws(tmp_path: Path) -> None:
    x = torch.rand(6, 2, 30, 23)
    recipe = dataclasses.replace(TINY_RECIPE, channels=(8, 8, 16), steps=4, coarse=0.5)
    settings = PriorSettings(StackFormat.of_names(("T1", "FLAIR"), (30, 23)))
    seen: list[float] = []
    run = TrainingRun(tmp_path / "run", precision="float32", report=lambda p: seen.append(p.loss))
    train(TrainingData(InMemory(x), x[:2]), settings, recipe, run)
    assert len(seen) == 4
    prior = DiffusionPrior.load(tmp_path / "run", "float32")
    assert prior.settings.image_size == (30, 23)
    drawn = reconstruct(
        prior, BlockDiagonal({"T1": Identity()}), {"T1": x[:1, 0]}, NoiseFree(), seed=1
    )
    assert torch.equal(drawn[0, :, 0], x[:1, 0])


class NoiseFree:
    """One call of the prior."""

    steps = 1

    def __call__(self, prior, measurement, noise, progress=None):  # type: ignore[no-untyped-def]
        return (prior.denoise(noise(), 999) + 1) / 2


def test_images_that_would_be_mirrored_whole_are_refused() -> None:
    with pytest.raises(UserError, match=r"6 x 40 are too small .* halves 16 pixels to 1; take few"):
        build_prior(Recipe(), PriorSettings(StackFormat.of_names(("T1",), (6, 40))))
