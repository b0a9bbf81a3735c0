"""Metrics of an image against the truth: one number per slice."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from any2all_data.metrics import at_best_scale, psnr, ssim
from any2all_operators import BlockDiagonal, Data, Measurement, UserError
from torch import Tensor

Perceptual = Callable[[Tensor, Tensor], dict[str, Tensor]]
"""Maps slices (B, H, W) in [0, 1] and their truth to {metric: one value per slice}."""
SetDistance = Callable[[Tensor, Tensor], dict[str, float]]
"""Maps two sets of images (N, H, W) in [0, 1] to {name: distance}."""
INCEPTION = "6726825d"
"""First digits of the SHA-256 of the standard weights, pt_inception-2015-12-05-6726825d.pth."""


def scores(
    image: Tensor,
    truth: Tensor,
    head: Tensor,
    lesion: Tensor | None = None,
    *,
    width: float | None = None,
    perceptual: Sequence[Perceptual] = (),
) -> dict[str, list[float]]:
    """{metric: one value per slice} of a volume's slices (B, H, W), which are clipped to [0, 1].

    psnr (in dB) and ssim have data range 1. psnr_max is relative to the largest value of the true
    slice. psnr_scaled and ssim_scaled are computed at the volume's best scale
    (any2all_data.metrics.best_scale), if ``width`` is None, because MR has no unit. nmse is ‖u −
    x‖²/‖x‖². mae is computed inside the head, in [0, 1], or in physical units if [0, 1] is
    ``width`` of them. psnr_head and psnr_lesion use the mean square error inside the head or the
    lesion; they are NaN without one. The values of each of ``perceptual`` are added.
    """
    scaled = at_best_scale(image, truth)
    image = image.clamp(0, 1)
    error = (image - truth).abs()
    found = {"psnr": psnr(image, truth), "ssim": ssim(image, truth)}
    found["psnr_max"] = found["psnr"] + 20 * truth.amax((1, 2)).log10()
    if width is None:
        found |= {"psnr_scaled": psnr(scaled, truth), "ssim_scaled": ssim(scaled, truth)}
    found |= {
        "nmse": error.square().sum((1, 2)) / truth.square().sum((1, 2)).clamp(min=1e-12),
        "mae": (width or 1.0) * inside(error, head),
        "psnr_head": decibels(inside(error.square(), head)),
    }
    if lesion is not None:
        found["psnr_lesion"] = decibels(inside(error.square(), lesion))
        found["mae_lesion"] = (width or 1.0) * inside(error, lesion)
    for compare in perceptual:
        found |= compare(image, truth)
    return {name: [float(v) for v in values] for name, values in found.items()}


def through_plane(
    image: Tensor, truth: Tensor, head: Tensor, places: Sequence[int]
) -> dict[int, float]:
    """{slice: error of the step to the next slice, over the true step}, for adjacent slices.

    Σ |(u_{k+1} − u_k) − (x_{k+1} − x_k)| / Σ |x_{k+1} − x_k| over the head of (B, H, W), whose
    slices lie at ``places`` in the volume. An image that does not change from slice to slice has 1.
    A higher value is flicker.
    """
    found = {}
    for b in range(len(places) - 1):
        both = head[b] & head[b + 1]
        step = (truth[b + 1] - truth[b])[both]
        if places[b + 1] == places[b] + 1 and float(step.abs().sum()) > 0:
            gap = (image[b + 1] - image[b])[both] - step
            found[b] = float(gap.abs().sum() / step.abs().sum())
    return found


def agreement(operator: BlockDiagonal, data: Data, stack: Tensor) -> dict[str, list[float]]:
    """{modality: RMS of y − A x over that of the noise, one per slice}, for noisy data."""
    residuals = Measurement(operator, data).near(stack).residual(stack)
    found = {}
    for m, norm in residuals.items():
        block = operator.operators[m]
        if block.noise_std:
            size = block.data_size(data[m])
            found[m] = (norm / size**0.5 / block.noise_std).tolist()
    return found


def inside(values: Tensor, mask: Tensor) -> Tensor:
    """The mean of (B, H, W) within a mask, (B,); NaN where it is empty."""
    return (values * mask).sum((1, 2)) / mask.sum((1, 2))


def decibels(mse: Tensor) -> Tensor:
    """10 log₁₀(1/MSE)."""
    return -10 * mse.clamp(min=1e-12).log10()


def lpips() -> Perceptual:
    """LPIPS with AlexNet (Zhang 2018) of grey images, by torchmetrics.

    Raises UserError if the weights of its network, or the packages that read them, are missing.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

            metric = LearnedPerceptualImagePatchSimilarity("alex", reduction="none", normalize=True)
            metric.eval()
    except Exception as error:  # torchvision's, the hub's and the network's many
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"LPIPS left out: its network can't be loaded ({type(error).__name__}: {reason}); "
            "pip install 'any2all-eval[perceptual]' and let torchvision fetch alexnet once"
        ) from None

    @torch.no_grad()
    def compare(image: Tensor, truth: Tensor) -> dict[str, Tensor]:
        result: Tensor = metric(*(x[:, None].repeat(1, 3, 1, 1) for x in (image, truth)))
        return {"lpips": result.reshape(len(image))}

    return compare


def fid(weights: Path) -> SetDistance:
    """Fréchet Inception distance (Heusel 2017) between sets of grey images (N, H, W) in [0, 1].

    ``weights`` are those of the TensorFlow network, as torch-fidelity publishes them. Computed by
    torchmetrics. Raises UserError if the file is a different one, or if a package is missing.
    """
    try:
        digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    except OSError as error:
        raise UserError(f"--inception {weights}: {error.strerror}; give a file") from None
    if not digest.startswith(INCEPTION):
        raise UserError(
            f"--inception {weights}: its SHA-256 begins with {digest[:8]}, not {INCEPTION}; FID is "
            "defined by torch-fidelity's pt_inception-2015-12-05-6726825d.pth alone"
        )
    try:
        from torchmetrics.image.fid import FrechetInceptionDistance

        metric = FrechetInceptionDistance(
            normalize=True, feature_extractor_weights_path=str(weights)
        )
    except Exception as error:  # torchvision's, too
        raise UserError(
            f"FID left out: its network can't be loaded ({type(error).__name__}: "
            f"{str(error).strip().splitlines()[0]}); pip install 'any2all-eval[perceptual]'"
        ) from None

    @torch.no_grad()
    def distance(images: Tensor, real: Tensor) -> dict[str, float]:
        metric.reset()
        for stack, is_real in ((images, False), (real, True)):
            for part in stack.split(32):
                metric.update(part[:, None].repeat(1, 3, 1, 1), real=is_real)
        return {"FID": float(metric.compute())}

    return distance
