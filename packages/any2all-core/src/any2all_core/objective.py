"""The training loss of a prior, and its validation on held-out slices."""

from __future__ import annotations

import torch
from torch import Tensor

from any2all_core.prior import DiffusionPrior
from any2all_core.prior_settings import Prediction

VALIDATION_SLICES = 64
VALIDATION_TIMES = (150, 300, 500, 700)
QUARTERS = 4
GOLDEN = (5**0.5 - 1) / 2
VALIDATION_BATCH = 16


def noised(x_0: Tensor, noise: Tensor, alpha_bar: Tensor) -> Tensor:
    """x_t = √ᾱ x_0 + √(1−ᾱ) ε, (B, M, H, W), with ``alpha_bar`` = ᾱ(t_m), (B, M)."""
    return _planes(alpha_bar.sqrt()) * x_0 + _planes((1 - alpha_bar).sqrt()) * noise


def loss(
    out: Tensor,
    x_0: Tensor,
    noise: Tensor,
    alpha_bar: Tensor,
    *,
    asked: Tensor,
    prediction: Prediction,
    min_snr: float = 0.0,
) -> Tensor:
    """The mean over (B, M) of w ‖target − out‖² / pixels, with 0 for images not in ``asked``.

    ``asked``, (B, M), marks the images that enter the loss. The mean includes the others, so that
    the weight of an image does not depend on the rest of the batch.

    The target is ε, x_0, or v = √ᾱ ε − √(1−ᾱ) x_0. With SNR = ᾱ/(1−ᾱ) and γ = ``min_snr``, the
    weight is min(SNR, γ) on the error of x_0, which equals min(SNR, γ)/SNR on that of ε and
    min(SNR, γ)/(SNR + 1) on that of v (Hang 2023, arXiv 2303.09556). For γ = 0 it is w = 1.
    """
    signal, spread = _planes(alpha_bar.sqrt()), _planes((1 - alpha_bar).sqrt())
    target = {"epsilon": noise, "sample": x_0, "v": signal * noise - spread * x_0}[prediction]
    each = (out - target).square().mean((2, 3))
    if min_snr:
        snr = alpha_bar / (1 - alpha_bar)
        capped = snr.clamp(max=min_snr)
        each = (
            each * {"epsilon": capped / snr, "sample": capped, "v": capped / (snr + 1)}[prediction]
        )
    return (each * asked).mean()


def validation_slices(slices: Tensor, count: int = VALIDATION_SLICES) -> Tensor:
    """Choose ``count`` evenly spaced slices of (N, M, H, W), or all if there are fewer.

    The slices must be ordered by patient.
    """
    count = min(count, len(slices))
    return slices[torch.linspace(0, len(slices) - 1, count).round().long()]


@torch.no_grad()
def validate(prior: DiffusionPrior, slices: Tensor) -> dict[str, float]:
    """Compute the held-out loss with fixed noise, and the PSNR of x̂_0 at fixed times (range 1).

    ``slices`` are (N, M, H, W) in [0, 1]. ``loss_joint`` uses one t for all modalities. With
    separate levels, ``loss_given`` has one clean image, in turn, and the others at t or missing;
    ``psnr_missing`` is the PSNR in dB of the one-call posterior mean of every image, given one
    other. ``validation_loss`` is the mean of both losses, or ``loss_joint`` alone.
    """
    joint = _loss(prior, slices, given=False)
    figures = {"validation_loss": joint}
    if prior.levels == "separate" and len(prior.modalities) > 1:
        given = _loss(prior, slices, given=True)
        figures = {"validation_loss": (joint + given) / 2}
        figures |= {"loss_joint": joint, "loss_given": given}
        figures["psnr_missing"] = _psnr_missing(prior, slices)
    for t in (t * prior.schedule.steps // 1000 for t in VALIDATION_TIMES):
        figures[f"psnr_t{t}"] = _psnr_at(prior, slices, t)
    return {name: round(value, 5) for name, value in figures.items()}


def _loss(prior: DiffusionPrior, slices: Tensor, given: bool) -> float:
    """The held-out loss, with every slice at one time in each quarter of the schedule.

    The position within the quarter advances by the golden ratio from slice to slice. All slices
    together then cover the quarter evenly, and neighbouring slices of one patient have distant
    times. If an image is given, the last quarter is replaced by T−1.
    """
    count, steps = len(prior.modalities), prior.schedule.steps
    levels = prior.schedule.alpha_bar.float().to(prior.device)
    random = torch.Generator().manual_seed(int(given))
    x_0 = 2 * slices - 1
    torch.randn(x_0.shape, generator=random)  # unused; keeps figures comparable with older priors
    within = torch.arange(1, len(x_0) + 1, dtype=torch.float64) * GOLDEN % 1
    asked = torch.ones(len(x_0), count)
    if given:
        asked[torch.arange(len(x_0)), torch.arange(len(x_0)) % count] = 0
    total = 0.0
    for quarter in range(QUARTERS):
        t = ((quarter + within) / QUARTERS * steps).long()
        if given and quarter == QUARTERS - 1:
            t = torch.full_like(t, steps - 1)
        times = torch.where(asked > 0, t[:, None], 0)
        noise = torch.randn(x_0.shape, generator=random)
        parts = (a.split(VALIDATION_BATCH) for a in (x_0, noise, times, asked))
        for part in zip(*parts, strict=True):
            x, z, time, wanted = (a.to(prior.device) for a in part)
            out = prior.predict(noised(x, z, levels[time]), time)
            predicted = prior.settings.prediction
            value = loss(out, x, z, levels[time], asked=wanted, prediction=predicted)
            total += float(value) * len(x)
    return total / QUARTERS / len(x_0) / float(asked.mean())


def _psnr_at(prior: DiffusionPrior, slices: Tensor, t: int) -> float:
    """The mean PSNR of E[x_0 | x_t] over slices, with one t for all modalities."""
    alpha_bar = prior.schedule.alpha_bar[t].float()
    noise = torch.randn(slices.shape, generator=torch.Generator().manual_seed(0))
    errors = []
    for u, z in zip(slices.split(VALIDATION_BATCH), noise.split(VALIDATION_BATCH), strict=True):
        x_t = alpha_bar.sqrt() * (2 * u - 1) + (1 - alpha_bar).sqrt() * z
        x_0_hat = prior.denoise(x_t.to(prior.device), t).clamp(-1, 1).cpu()
        errors.append(((x_0_hat + 1) / 2 - u).square().mean((1, 2, 3)))
    return float(-10 * torch.cat(errors).log10().mean())


def _psnr_missing(prior: DiffusionPrior, slices: Tensor) -> float:
    """The PSNR of the one-call mean, averaged over slices, given images and missing images."""
    count, last, found = len(prior.modalities), prior.schedule.steps - 1, []
    for given in range(count):
        times = [0 if m == given else last for m in range(count)]
        others = [m for m in range(count) if m != given]
        for u in slices.split(VALIDATION_BATCH):
            x_0_hat = prior.denoise((2 * u - 1).to(prior.device), times).clamp(-1, 1).cpu()
            error = ((x_0_hat + 1) / 2 - u)[:, others].square().mean((2, 3))
            found.append(-10 * error.clamp(min=1e-12).log10().flatten())
    return float(torch.cat(found).mean())


def _planes(values: Tensor) -> Tensor:
    return values[:, :, None, None]
