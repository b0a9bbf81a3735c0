"""The priors with a known posterior, against what can be worked out by hand or by drawing."""

from __future__ import annotations

import math

import torch
from any2all_core import GaussianMixturePrior, GaussianPrior, simulate
from any2all_core.noise import generator
from any2all_operators import BlockDiagonal, Identity, Measurement, Zero
from builders.scans import cartesian_scan
from torch import Tensor

SIZE = 4
MODALITIES = ("T1", "FLAIR")
COVARIANCE = torch.tensor([[0.04, 0.03], [0.03, 0.05]])


def of_pixels() -> GaussianPrior:
    mean = torch.tensor([-0.1, 0.2])
    return GaussianPrior.of_pixels(MODALITIES, mean, COVARIANCE, (SIZE, SIZE))


def smooth() -> GaussianPrior:
    """Neighbouring pixels are alike, and so are the two images."""
    place = torch.cartesian_prod(torch.arange(SIZE), torch.arange(SIZE)).double()
    alike = torch.exp(-torch.cdist(place, place) / 2)
    return GaussianPrior(
        MODALITIES, torch.zeros(2, SIZE, SIZE), torch.kron(COVARIANCE.double(), alike)
    )


def clean(t1: Tensor) -> Measurement:
    missing = torch.zeros(len(t1), 0)
    return Measurement(
        BlockDiagonal({"T1": Identity(), "FLAIR": Zero()}), {"T1": t1, "FLAIR": missing}
    )


def test_a_missing_image_given_a_clean_one_is_a_regression() -> None:
    prior = of_pixels()
    t1 = prior.draw(3, generator(1))[:, 0]
    found = prior.posterior(clean(t1))
    slope = COVARIANCE[0, 1] / COVARIANCE[0, 0]
    expected = ((0.2 + slope * (2 * t1 - 1 + 0.1)) + 1) / 2
    torch.testing.assert_close(found.mean[:, 1].float(), expected)
    torch.testing.assert_close(found.mean[:, 0].float(), t1)
    left = math.sqrt(float(COVARIANCE[1, 1] - slope * COVARIANCE[0, 1])) / 2
    torch.testing.assert_close(found.std[1].float(), torch.full((SIZE, SIZE), left))
    assert float(found.std[0].max()) < 1e-6


def test_the_denoiser_is_the_posterior_of_a_noisy_image() -> None:
    """x_t/√ᾱ is x_0 with noise of σ: denoising it and conditioning on it are one."""
    prior, t = smooth(), 400
    a = float(prior.schedule.alpha_bar[t])
    sigma = ((1 - a) / a) ** 0.5
    noisy = (
        2 * prior.draw(2, generator(2))
        - 1
        + sigma * torch.randn(2, 2, SIZE, SIZE, generator=generator(6))
    )
    block = Identity(noise_std=sigma / 2)
    known = dict(zip(MODALITIES, ((noisy + 1) / 2).unbind(1), strict=True))
    found = prior.posterior(Measurement(BlockDiagonal(dict.fromkeys(MODALITIES, block)), known))
    denoised = (prior.denoise(a**0.5 * noisy, t) + 1) / 2
    torch.testing.assert_close(found.mean.float(), denoised, atol=1e-5, rtol=1e-5)


def test_k_space_posterior_is_calibrated() -> None:
    """Over draws of truth and noise, (truth − mean)² averages to the posterior's variance."""
    prior = smooth()
    scan = cartesian_scan(SIZE, acceleration=2, coils=2, acs_lines=2, noise_std=0.05)
    operator = BlockDiagonal({"T1": scan, "FLAIR": Zero()})
    truth = prior.draw(4000, generator(3))
    found = prior.posterior(Measurement(operator, simulate(operator, truth)))
    error = (truth - found.mean).square().mean(0)
    torch.testing.assert_close(error, found.std**2, rtol=0.15, atol=0)
    assert float(found.std.square().mean()) < 0.8 * float(prior.covariance.diagonal().mean()) / 4


def test_a_mixture_tells_its_components_apart() -> None:
    low, high = of_pixels(), of_pixels()
    high.mean = high.mean + 1.0
    mixture = GaussianMixturePrior(torch.tensor([0.25, 0.75]), [low, high])
    stacks = torch.cat([low.draw(2, generator(4)), high.draw(2, generator(5))])
    share = mixture.shares(2 * stacks - 1)
    torch.testing.assert_close(share[:, 1].round(), torch.tensor([0.0, 0, 1, 1]).double())
    # halfway between two equal components nothing is known but the weights
    halfway = torch.stack([low.mean, high.mean]).mean(0)[None].float()
    known = clean((halfway[:, 0] + 1) / 2)
    found = mixture.posterior_shares(known)
    torch.testing.assert_close(found, torch.tensor([[0.25, 0.75]]).double(), atol=1e-4, rtol=0)
    # and its denoiser is the gradient of log p, by Tweedie: x̂_0 = (x_t + (1−ᾱ) ∇ log p)/√ᾱ
    t = 300
    a = float(mixture.schedule.alpha_bar[t])
    x_t = (
        a**0.5 * halfway.double() + 0.1 * torch.randn(1, 2, SIZE, SIZE, generator=generator(7))
    ).requires_grad_()
    logs = torch.stack([c.log_density(x_t, t) for c in mixture.components], 1)
    density = torch.logsumexp(logs + mixture.weights.log(), 1).sum()
    (slope,) = torch.autograd.grad(density, x_t)
    expected = (x_t + (1 - a) * slope) / a**0.5
    torch.testing.assert_close(mixture.denoise(x_t.detach(), t), expected.detach())
