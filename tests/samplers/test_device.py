"""Samplers on a GPU that is played by the CPU."""

from typing import Any

import pytest
import torch
from any2all_core import (
    DiffusionPrior,
    PriorSettings,
    StackFormat,
    make_sampler,
    reconstruct,
    simulate,
)
from any2all_core.network import build_prior
from any2all_core.prior_settings import Levels
from any2all_core.recipe import Recipe
from any2all_operators import (
    BlockDiagonal,
    FieldOfView,
    Identity,
    SenseFourier,
    equispaced_mask,
)
from builders.accelerator import GPU


def small_prior(levels: Levels) -> DiffusionPrior:
    torch.manual_seed(0)
    recipe = Recipe(channels=(8, 16), blocks=1, attention_levels=1, norm_groups=4)
    settings = PriorSettings(StackFormat.of_names(("T1", "FLAIR", "CT"), (16, 16)), levels=levels)
    prior = build_prior(recipe, settings).eval().requires_grad_(False)
    with torch.no_grad():
        for weights in prior.parameters():  # which start at zero where it matters most
            weights.add_(0.02 * torch.randn(weights.shape))
    return prior


def scan(lines_only: bool) -> SenseFourier:
    maps = torch.randn(2, 12, 16, dtype=torch.complex64)
    maps /= maps.abs().square().sum(0).sqrt()
    mask = equispaced_mask(16, 2, 4)
    return SenseFourier(maps, mask if lines_only else mask * (torch.arange(12)[:, None] < 11), 0.01)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sampler", "levels"),
    [
        *((name, "shared") for name in ("ddpm", "mds", "mps")),
        *((name, "separate") for name in ("ddpm", "mds", "mps", "mcs", "mean")),
    ],
)
@pytest.mark.parametrize("lines_only", [True, False])
def test_gpu_draws_as_the_cpu(sampler: str, levels: Levels, lines_only: bool, played: None) -> None:
    prior = small_prior(levels)
    operator = BlockDiagonal(
        {"T1": Identity(), "FLAIR": FieldOfView(scan(lines_only), (12, 16), (16, 16))}
    )
    data = simulate(operator, torch.rand(3, 2, 16, 16))
    if sampler == "ddpm":
        operator, data = BlockDiagonal({}), {}
    if sampler == "mean":  # a clean image and a noisy one
        operator = BlockDiagonal({"T1": Identity(), "FLAIR": Identity(0.1)})
        data = simulate(operator, torch.rand(3, 2, 16, 16))
    options: dict[str, Any] = {"shape": (3, 16, 16), "batch_size": 2}
    # a strong pull in few steps would make rounding errors grow
    weak = {"mps": {"steps": "4", "zeta": "0.01"}, "mean": {}}
    draw = make_sampler(sampler, weak.get(sampler, {"steps": "4"}))
    on_cpu = reconstruct(prior, operator, data, draw, **options)
    asked: list[torch.device] = []
    prior.to(GPU)
    prior.unet.register_forward_pre_hook(lambda _, given: asked.append(given[0].device))
    on_gpu = reconstruct(prior, operator, data, draw, **options)
    assert asked
    assert all(device == GPU for device in asked)
    assert on_gpu.device.type == "cpu"
    assert torch.allclose(on_cpu, on_gpu, atol=1e-5)
