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
    """x_t = √ᾱ x_0 + √(1−ᾱ) ε, (B, M, H, W); ``alpha_bar``: ᾱ(t_m), (B, M)."""
    return _planes(alpha_bar.sqrt()) * x_0 + _planes((1 - alpha_bar).sqrt()) * noise


def loss(
    out: Tensor,
    x_0: Tensor,
    noise: Tensor,
    alpha_bar: Tensor,
    asked: Tensor,
    prediction: Prediction,
    min_snr: float = 0.0,
) -> Tensor:
    """Mean over (B, M) of w ‖target − out‖² / pixels, 0 for an image that is not ``asked`` for.

    asked: (B, M). Dividing by what is asked for would weigh an example by the company it is in.

    target = ε, x_0, or v = √ᾱ ε − √(1−ᾱ) x_0. With SNR = ᾱ/(1−ᾱ) and γ = ``min_snr`` the weight
    is min(SNR, γ) on x_0's error, which is min(SNR, γ)/SNR on ε's and min(SNR, γ)/(SNR + 1) on v's
    (Hang 2023, arXiv 2303.09556); 1 on the target's own where γ is 0.
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


def validation_slices(slices: Tensor) -> Tensor:
    """Of slices (N, M, H, W), patient after patient, 64 that are evenly spread; all if fewer."""
    count = min(VALIDATION_SLICES, len(slices))
    return slices[torch.linspace(0, len(slices) - 1, count).round().long()]


@torch.no_grad()
def validate(prior: DiffusionPrior, slices: Tensor) -> dict[str, float]:
    """Held-out loss over fixed noise, and PSNR of x̂_0 at fixed times (data range 1).

    slices: (N, M, H, W) in [0, 1]. Each is seen at one time in every quarter of the schedule, the
    same for all modalities. Where in the quarter differs from slice to slice by the golden ratio,
    so that slices next to each other, which are of one patient, lie apart, and all together cover
    it evenly. A prior with a level for each modality is also asked for each missing image given one
    other: ``psnr_missing`` is the mean of its one-call answers, and the loss is the mean of both.
    """
    device = prior.device
    random = torch.Generator().manual_seed(0)
    alpha_bar = prior.schedule.alpha_bar.float()
    levels = alpha_bar.to(device)
    steps = prior.schedule.steps
    x_0 = 2 * slices - 1
    noise = torch.randn(x_0.shape, generator=random)
    within = torch.arange(1, len(x_0) + 1, dtype=torch.float64) * GOLDEN % 1
    count = len(prior.modalities)

    def loss_at(times: Tensor, asked: Tensor, noise: Tensor) -> float:
        total = 0.0
        for part in zip(
            *(a.split(VALIDATION_BATCH) for a in (x_0, noise, times, asked)), strict=True
        ):
            x, z, t, wanted = (a.to(device) for a in part)
            told = t if prior.levels == "separate" else t[:, 0]
            out = prior.predict(noised(x, z, levels[t]), told)
            total += len(x) * float(
                loss(out, x, z, levels[t], wanted, prior.settings.prediction)
            )
        return total / len(x_0) / float(asked.mean())

    everything = torch.ones(len(x_0), count)
    joint = 0.0
    for quarter in range(QUARTERS):
        t = ((quarter + within) / QUARTERS * steps).long()
        again = torch.randn(x_0.shape, generator=random)
        joint += loss_at(t[:, None].expand(-1, count), everything, again) / QUARTERS
    figures = {"validation_loss": joint}
    if prior.levels == "separate" and count > 1:
        figures |= {"loss_joint": joint}
        questions = 0.0
        for quarter in range(QUARTERS):
            late = quarter == QUARTERS - 1  # a quarter of them asks for the mean
            t = ((quarter + within) / QUARTERS * steps).long()
            t = torch.full_like(t, steps - 1) if late else t
            given = torch.arange(len(x_0)) % count
            asked = everything.clone()
            asked[torch.arange(len(x_0)), given] = 0
            times = torch.where(asked > 0, t[:, None], 0)
            again = torch.randn(x_0.shape, generator=random)
            questions += loss_at(times, asked, again) / QUARTERS
        figures["loss_given"] = questions
        figures["validation_loss"] = (joint + questions) / 2
        figures["psnr_missing"] = _psnr_missing(prior, slices)
    for time_ in VALIDATION_TIMES:
        late = time_ * steps // 1000
        signal, spread = alpha_bar[late].sqrt(), (1 - alpha_bar[late]).sqrt()
        errors = []
        for part, z in zip(x_0.split(VALIDATION_BATCH), noise.split(VALIDATION_BATCH), strict=True):
            x_0_hat = prior.denoise((signal * part + spread * z).to(device), late).clamp(-1, 1)
            errors.append((((x_0_hat.cpu() - part) / 2) ** 2).mean((1, 2, 3)))
        figures[f"psnr_t{late}"] = float(-10 * torch.cat(errors).log10().mean())
    return {name: round(value, 5) for name, value in figures.items()}


def _psnr_missing(prior: DiffusionPrior, slices: Tensor) -> float:
    """Mean over slices, given images and missing ones of the PSNR of the one-call answer."""
    count, last, found = len(prior.modalities), prior.schedule.steps - 1, []
    for given in range(count):
        times = [0 if m == given else last for m in range(count)]
        others = [m for m in range(count) if m != given]
        for part in slices.split(VALIDATION_BATCH):
            x = prior.denoise((2 * part - 1).to(prior.device), times).clamp(-1, 1).cpu()
            error = ((x + 1) / 2 - part)[:, others].square().mean((2, 3))
            found.append(-10 * error.clamp(min=1e-12).log10().flatten())
    return float(torch.cat(found).mean())


def _planes(values: Tensor) -> Tensor:
    return values[:, :, None, None]
