"""Compare an image with the truth."""

from __future__ import annotations

from torch import Tensor


def psnr(image: Tensor, truth: Tensor) -> Tensor:
    """Return the PSNR 10 log₁₀(1/MSE) per slice: (B, H, W) in [0, 1] to (B,), dB; data range 1."""
    return -10 * (image - truth).square().mean((1, 2)).clamp(min=1e-12).log10()


def ssim(image: Tensor, truth: Tensor) -> Tensor:
    """Return SSIM per slice (Wang 2004, Gaussian window, σ 1.5): (B, H, W) to (B,); range 1."""
    from torchmetrics.functional.image import structural_similarity_index_measure

    result = structural_similarity_index_measure(
        image[:, None], truth[:, None], data_range=1.0, reduction="none"
    )
    assert isinstance(result, Tensor)
    return result


def best_scale(image: Tensor, truth: Tensor) -> Tensor:
    """Return the best scale of a volume: a = max(0, ⟨u, x⟩/⟨u, u⟩) = argmin_{a ≥ 0} ‖a u − x‖².

    Image u and truth x are (B, H, W), the slices of one patient's modality. a is (), one factor
    for all slices, and 0 for an image that is 0 everywhere. MR has no unit, so the brightness of
    an MR image that was not measured cannot be known. Do not use it for images in HU or SUV, whose
    brightness is part of the result.
    """
    return ((image * truth).sum() / image.square().sum().clamp(min=1e-12)).clamp(min=0)


def at_best_scale(image: Tensor, truth: Tensor) -> Tensor:
    """Scale a volume to the truth: min(a max(u, 0), 1) with a from :func:`best_scale`.

    Image u and truth are (B, H, W), and so is the result, in [0, 1]. It is the same for u and 2 u.
    """
    image = image.clamp(min=0)
    return (best_scale(image, truth) * image).clamp(max=1)
