"""What training minimises, and how it is judged on held-out slices."""

from __future__ import annotations

import torch
from torch import Tensor

from any2all_core.prior import DiffusionPrior, Prediction

VALIDATION_SLICES = 64
VALIDATION_TIMES = (150, 300, 500, 700)
QUARTERS = 4
GOLDEN = (5**0.5 - 1) / 2
VALIDATION_BATCH = 16


def noised(x_0: Tensor, noise: Tensor, alpha_bar: Tensor) -> Tensor:
    """x_t = √ᾱ x_0 + √(1−ᾱ) ε, (B, M, H, W); ``alpha_bar``: ᾱ_t (B,)."""
    return _column(alpha_bar.sqrt()) * x_0 + _column((1 - alpha_bar).sqrt()) * noise


def loss(
    out: Tensor,
    x_0: Tensor,
    noise: Tensor,
    alpha_bar: Tensor,
    prediction: Prediction,
    min_snr: float = 0.0,
) -> Tensor:
    """Mean over the batch of w_t ‖target − out‖² / pixels.

    target = ε, x_0, or v = √ᾱ ε − √(1−ᾱ) x_0. With SNR = ᾱ/(1−ᾱ) and γ = ``min_snr`` the weight
    is min(SNR, γ) on x_0's error, which is min(SNR, γ)/SNR on ε's and min(SNR, γ)/(SNR + 1) on v's
    (Hang 2023, arXiv 2303.09556); 1 on the target's own where γ is 0.
    """
    signal, spread = _column(alpha_bar.sqrt()), _column((1 - alpha_bar).sqrt())
    target = {"epsilon": noise, "sample": x_0, "v": signal * noise - spread * x_0}[prediction]
    each = (out - target).square().mean((1, 2, 3))
    if min_snr:
        snr = alpha_bar / (1 - alpha_bar)
        capped = snr.clamp(max=min_snr)
        each = (
            each * {"epsilon": capped / snr, "sample": capped, "v": capped / (snr + 1)}[prediction]
        )
    return each.mean()


def validation_slices(slices: Tensor) -> Tensor:
    """Of slices (N, M, H, W), patient after patient, 64 that are evenly spread; all if fewer."""
    count = min(VALIDATION_SLICES, len(slices))
    return slices[torch.linspace(0, len(slices) - 1, count).round().long()]


@torch.no_grad()
def validate(prior: DiffusionPrior, slices: Tensor) -> dict[str, float]:
    """Held-out loss over fixed noise, and the PSNR of x̂_0 at fixed times (data range 1).

    slices: (N, M, H, W) in [0, 1]. Each is seen at one time in every quarter of the schedule. Where
    in the quarter differs from slice to slice by the golden ratio, so that slices next to each
    other, which are of one patient, lie apart, and all together cover it evenly.
    """
    device = prior.device
    random = torch.Generator().manual_seed(0)
    alpha_bar = prior.schedule.alpha_bar.float()
    levels = alpha_bar.to(device)
    steps = prior.schedule.steps
    x_0 = 2 * slices - 1
    noise = torch.randn(x_0.shape, generator=random)
    within = torch.arange(1, len(x_0) + 1, dtype=torch.float64) * GOLDEN % 1
    total = 0.0
    for quarter in range(QUARTERS):
        t = ((quarter + within) / QUARTERS * steps).long()
        again = torch.randn(x_0.shape, generator=random)
        for part in zip(*(a.split(VALIDATION_BATCH) for a in (x_0, again, t)), strict=True):
            x, z, time = (a.to(device) for a in part)
            level = levels[time]
            out = prior.predict(noised(x, z, level), time)
            value = loss(out, x, z, level, prior.settings.prediction)
            total += float(value) * len(x)
    figures = {"validation_loss": total / QUARTERS / len(x_0)}
    for time_ in VALIDATION_TIMES:
        late = time_ * steps // 1000
        signal, spread = alpha_bar[late].sqrt(), (1 - alpha_bar[late]).sqrt()
        errors = []
        for part, z in zip(x_0.split(VALIDATION_BATCH), noise.split(VALIDATION_BATCH), strict=True):
            x_0_hat = prior.denoise((signal * part + spread * z).to(device), late).clamp(-1, 1)
            errors.append((((x_0_hat.cpu() - part) / 2) ** 2).mean((1, 2, 3)))
        figures[f"psnr_t{late}"] = float(-10 * torch.cat(errors).log10().mean())
    return {name: round(value, 5) for name, value in figures.items()}


def _column(values: Tensor) -> Tensor:
    return values[:, None, None, None]
