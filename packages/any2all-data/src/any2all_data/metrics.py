"""How near an image is to the truth."""

from __future__ import annotations

from torch import Tensor


def psnr(image: Tensor, truth: Tensor) -> Tensor:
    """10 log₁₀(1/MSE) of each slice: (B, H, W) in [0, 1] to (B,), dB; data range 1."""
    return -10 * (image - truth).square().mean((1, 2)).clamp(min=1e-12).log10()


def ssim(image: Tensor, truth: Tensor) -> Tensor:
    """SSIM (Wang 2004: Gaussian window, σ 1.5) of each slice: (B, H, W) to (B,); data range 1."""
    from torchmetrics.functional.image import structural_similarity_index_measure

    result = structural_similarity_index_measure(
        image[:, None], truth[:, None], data_range=1.0, reduction="none"
    )
    assert isinstance(result, Tensor)
    return result
