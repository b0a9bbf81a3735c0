"""Validation of a method during training, on slices of held-out patients."""

from __future__ import annotations

import torch
from torch import Tensor

from any2all_core.fitted import FittedMethod
from any2all_core.noise import Noise

BATCH = 16


def validate_method(fitted: FittedMethod, slices: Tensor) -> dict[str, float]:
    """Compute the error of a method on held-out slices (N, M, H, W) in [0, 1].

    A method of synthesis receives one image of each slice, in turn over the modalities, and makes
    the others; ``psnr_missing`` is their mean PSNR in dB. Any other method reconstructs its target
    from a simulated scan with all other images given; ``psnr_target`` is the mean PSNR in dB.
    ``validation_error`` is the root mean square error. ``validation_loss`` is the geometric mean of
    the mean square errors of all images.
    """
    if "synthesis" in fitted.method.abilities:
        name, errors = "psnr_missing", _missing(fitted, slices)
    else:
        name, errors = "psnr_target", _targets(fitted, slices)
    psnr = float(-10 * errors.clamp(min=1e-12).log10().mean())
    figures = {
        "validation_loss": 10 ** (-psnr / 10),
        "validation_error": float(errors.mean().sqrt()),
        name: psnr,
    }
    return {key: round(value, 7) for key, value in figures.items()}


def _missing(fitted: FittedMethod, slices: Tensor) -> Tensor:
    """The mean square error of each missing image of each slice, (N·(M−1),)."""
    names = fitted.modalities
    found = []
    for k, given in enumerate(names):
        ids = list(range(k, len(slices), len(names)))
        others = [m for m in range(len(names)) if m != k]
        for part in (ids[n : n + BATCH] for n in range(0, len(ids), BATCH)):
            x = slices[part]
            made = fitted.complete(x, [given], _noise(fitted, part)).cpu()
            found.append((made - x)[:, others].square().mean((2, 3)).flatten())
    return torch.cat(found)


def _targets(fitted: FittedMethod, slices: Tensor) -> Tensor:
    found = []
    for target in fitted.method.targets():
        operator = fitted.method.scan_in_training(fitted.settings, target)
        guides = [m for m in fitted.modalities if m != target]
        place = fitted.modalities.index(target)
        for part in torch.arange(len(slices)).split(BATCH):
            ids = part.tolist()
            x, noise = slices[part], _noise(fitted, ids)
            data = operator.measure(x[:, place], noise.generators)
            made = fitted.recover(
                data, operator, target, given=x, available=guides, noise=noise
            ).cpu()
            found.append((made - x)[:, place].square().mean((1, 2)))
    return torch.cat(found)


def _noise(fitted: FittedMethod, ids: list[int]) -> Noise:
    count, (height, width) = len(fitted.modalities), fitted.settings.image_size
    return Noise.of_slices(0, [(k, 0) for k in ids], (count, height, width), fitted.device)
