"""How near an image is to the truth: one number a slice."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from any2all_data.metrics import psnr, ssim
from any2all_operators import UserError
from torch import Tensor

Perceptual = Callable[[Tensor, Tensor], Tensor]


def scores(
    image: Tensor,
    truth: Tensor,
    head: Tensor,
    lesion: Tensor | None,
    width: float | None,
    perceptual: Perceptual | None,
) -> dict[str, list[float]]:
    """{metric: one value a slice} of images (B, H, W) in [0, 1], clipped to it.

    psnr (dB), ssim: data range 1. nmse: ‖u − x‖²/‖x‖². mae: of [0, 1], or in physical units where
    [0, 1] is ``width`` of them; inside the head. psnr_head, psnr_lesion: of the mean square error
    inside one; NaN where there is none. lpips: if ``perceptual`` is there.
    """
    image = image.clamp(0, 1)
    error = (image - truth).abs()
    found = {
        "psnr": psnr(image, truth),
        "ssim": ssim(image, truth),
        "nmse": error.square().sum((1, 2)) / truth.square().sum((1, 2)).clamp(min=1e-12),
        "mae": (width or 1.0) * inside(error, head),
        "psnr_head": decibels(inside(error.square(), head)),
    }
    if lesion is not None:
        found["psnr_lesion"] = decibels(inside(error.square(), lesion))
        found["mae_lesion"] = (width or 1.0) * inside(error, lesion)
    if perceptual is not None:
        found["lpips"] = perceptual(image, truth)
    return {name: [float(v) for v in values] for name, values in found.items()}


def inside(values: Tensor, mask: Tensor) -> Tensor:
    """The mean of (B, H, W) within a mask, (B,); NaN where it is empty."""
    return (values * mask).sum((1, 2)) / mask.sum((1, 2))


def decibels(mse: Tensor) -> Tensor:
    """10 log₁₀(1/MSE)."""
    return -10 * mse.clamp(min=1e-12).log10()


def lpips() -> Perceptual:
    """LPIPS with AlexNet (Zhang 2018) of grey images, by torchmetrics.

    Raises UserError where its network's weights, or what reads them, are not at hand.
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
    def compare(image: Tensor, truth: Tensor) -> Tensor:
        result: Tensor = metric(*(x[:, None].repeat(1, 3, 1, 1) for x in (image, truth)))
        return result.reshape(len(image))

    return compare
