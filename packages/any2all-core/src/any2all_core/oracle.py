"""The error of a sampler's draws for priors whose posterior is known exactly."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from any2all_operators import (
    BlockDiagonal,
    Identity,
    Measurement,
    Operator,
    SenseFourier,
    equispaced_mask,
)
from torch import Tensor

from any2all_core.gaussian import GaussianMixturePrior, GaussianPrior
from any2all_core.noise import generator
from any2all_core.prior_settings import Levels
from any2all_core.reconstruct import complete, reconstruct, simulate
from any2all_core.sampler import Sampler

SIZE = 8
MODALITIES = ("A", "B")
NOISE_STD = 0.02


@dataclass(frozen=True)
class Found:
    """The error of the draws of one image, over all draws and pixels.

    ``bias`` is the root mean square of (mean of the draws − posterior mean), divided by that of the
    posterior's standard deviation and corrected for the finite number of draws. ``spread`` is the
    standard deviation of the draws divided by the posterior's, both as root mean squares.
    """

    bias: float
    spread: float


def smooth_images(levels: Levels = "shared") -> GaussianPrior:
    """Two images of 8 x 8 with correlated neighbours; A and B have a correlation of 0.74."""
    place = torch.cartesian_prod(torch.arange(SIZE), torch.arange(SIZE)).double()
    distance = torch.cdist(place, place)
    alike = 0.7 * torch.exp(-distance / 3) + 0.3 * torch.exp(-distance)
    pair = torch.tensor([[0.10, 0.07], [0.07, 0.09]]).double()
    pixels = torch.eye(2 * SIZE**2).double()
    mean = torch.tensor([-0.1, 0.2])[:, None, None].expand(-1, SIZE, SIZE)
    covariance = torch.kron(pair, alike) + 0.003 * pixels
    return GaussianPrior(MODALITIES, mean, covariance, levels=levels)


def two_kinds(levels: Levels = "shared") -> GaussianMixturePrior:
    """A mixture of two kinds of images, 35 and 65 %, that differ much in B and little in A."""
    one = smooth_images()
    apart = torch.tensor([0.0625, 0.25])[:, None, None]
    kinds = [
        GaussianPrior(MODALITIES, one.mean + sign * apart, one.covariance / 4, levels=levels)
        for sign in (-1, 1)
    ]
    return GaussianMixturePrior(torch.tensor([0.35, 0.65]), kinds)


@dataclass(frozen=True)
class Blur(Operator):
    """Gaussian blur of ``sigma`` pixels, periodic at the border."""

    sigma: float = 1.0
    noise_std: float = NOISE_STD

    def forward(self, image: Tensor) -> Tensor:
        rows, columns = (torch.fft.fftfreq(n, device=image.device) for n in image.shape[1:])
        frequency = rows[:, None] ** 2 + columns**2
        transfer = torch.exp(-2 * (math.pi * self.sigma) ** 2 * frequency)
        return torch.fft.ifft2(transfer * torch.fft.fft2(image)).real

    def adjoint(self, data: Tensor) -> Tensor:
        return self.forward(data)


def cases() -> dict[str, dict[str, Operator]]:
    """{name: {modality: operator}} with clean, noisy, blurred and k-space data (R = 2, 4 coils)."""
    x = torch.linspace(-1, 1, SIZE)
    corners = [(a, b) for a in (-1, 1) for b in (-1, 1)]
    maps = torch.stack(
        [
            torch.exp(-((x[:, None] - a) ** 2) / 3 - (x - b) ** 2 / 3 + 1j * a * x)
            for a, b in corners
        ]
    )
    maps = (maps / maps.abs().square().sum(0).sqrt()).to(torch.complex64)
    scan = SenseFourier(maps, equispaced_mask(SIZE, 2, 2), NOISE_STD)
    return {
        "nothing": {},
        "A clean": {"A": Identity()},
        "A clean, B k-space": {"A": Identity(), "B": scan},
        "A, B k-space": {"A": scan, "B": scan},
        "A noisy": {"A": Identity(0.05)},
        "B blurred": {"B": Blur()},
    }


def posterior_error(
    sampler: Sampler,
    known: Mapping[str, Operator],
    draws: int = 256,
    seed: int = 0,
    *,
    levels: Levels = "shared",
) -> dict[str, Found]:
    """{image: the error of its draws} for one truth of :func:`smooth_images`.

    Images that the data determines are left out. The posterior is that of a Gaussian, conditioned
    on the data.
    """
    prior = smooth_images(levels)
    if known:
        measurement = _measured(prior, known, prior.draw(1, generator(seed, 1)), seed)
        posterior = prior.posterior(measurement)
        mean, std = posterior.mean[0], posterior.std
        data = {m: y for m, y in measurement.data.items() if m in known}
    else:
        mean = (prior.mean + 1) / 2
        std, data = prior.covariance.diagonal().sqrt().view(mean.shape) / 2, {}
    operator = BlockDiagonal(known)
    stacks = reconstruct(
        prior, operator, data, sampler,
        shape=(1, SIZE, SIZE), draws=draws, batch_size=draws, seed=seed,
    )[:, 0].double()  # fmt: skip
    found: dict[str, Found] = {}
    for m, name in enumerate(MODALITIES):
        scale = float(std[m].square().mean())
        if scale < 1e-10:
            continue
        spread = float(stacks[:, m].var(0).mean()) / scale
        bias = float((stacks[:, m].mean(0) - mean[m]).square().mean()) / scale
        found[name] = Found(max(bias - spread / draws, 0.0) ** 0.5, spread**0.5)
    return found


def mode_shares(
    sampler: Sampler, draws: int = 256, seed: int = 0, levels: Levels = "shared"
) -> list[tuple[float, float]]:
    """(exact, found) probability of the second kind of :func:`two_kinds` given A, for 4 truths."""
    prior = two_kinds(levels)
    pairs = []
    for k in range(4):
        truth = prior.components[k % 2].draw(1, generator(seed, 2, k))
        measurement = _measured(prior, {"A": Identity()}, truth, seed)
        data = {"A": measurement.data["A"]}
        stacks = reconstruct(
            prior, BlockDiagonal({"A": Identity()}), data, sampler,
            draws=draws, batch_size=draws, seed=seed,
        )[:, 0]  # fmt: skip
        exact = prior.posterior_shares(measurement)[0, 1]
        pairs.append((float(exact), float(prior.shares(2 * stacks - 1)[:, 1].mean())))
    return pairs


def _measured(
    prior: GaussianPrior | GaussianMixturePrior,
    known: Mapping[str, Operator],
    truth: Tensor,
    seed: int,
) -> Measurement:
    operator = complete(BlockDiagonal(known), prior)
    return Measurement(operator, simulate(operator, truth, seed))
