"""Small objects for the tests of a plugin: a phantom, a patient's images, and an untrained prior.

:func:`check_operator` and :func:`check_sampler` test whether a plugin fulfils its contract.
All objects are made from a seed in milliseconds and need neither files nor pytest.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from any2all_operators import check_operator
from torch import Tensor

from any2all_core.check import check_sampler
from any2all_core.network import build_prior
from any2all_core.prior import DiffusionPrior
from any2all_core.prior_settings import PriorSettings
from any2all_core.recipe import Recipe
from any2all_core.stack_format import StackFormat

__all__ = [
    "AFFINE",
    "MODALITIES",
    "TINY_RECIPE",
    "check_operator",
    "check_sampler",
    "patient_stack",
    "patient_volumes",
    "phantom",
    "tiny_prior",
]

MODALITIES = ("T1", "FLAIR", "T1Gd")
"""The modalities of the tiny patient and of the tiny prior."""

AFFINE = np.diag([-1.5, -1.5, 4.0, 1.0])
"""Affine from voxel indices of a phantom to mm in RAS+, with pixels of 1.5 mm, slices of 4 mm."""

BRIGHTEST = 200.0
"""Upper limit of the voxel values of a phantom."""

TINY_RECIPE = Recipe(
    channels=(8, 16),
    blocks=1,
    attention_levels=1,
    norm_groups=2,
    steps=6,
    batch_size=4,
    warmup=2,
)
"""Recipe of a network with two levels, which trains for its six steps within a second."""


def phantom(size: int = 32, depth: int = 4, seed: int = 0) -> np.ndarray:
    """Make a smooth head-like volume.

    Parameters
    ----------
    size
        Number of voxels along x and along y.
    depth
        Number of slices.
    seed
        Seed of the contrast; the outline is always the same.

    Returns
    -------
    array
        (x, y, z), float32: 0 outside an ellipse, 105 to 195 inside, in arbitrary units.
    """
    rng = np.random.default_rng(seed)
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in (size, size, depth)), indexing="ij")
    inside = (x / 0.7) ** 2 + (y / 0.85) ** 2 < 1
    waves = 1 + 0.3 * np.sin(4 * x + rng.uniform(0, 6)) * np.cos(5 * y + z + rng.uniform(0, 6))
    return (150 * inside * waves).astype(np.float32)


def patient_volumes(
    modalities: Sequence[str] = MODALITIES, size: int = 32, depth: int = 4
) -> dict[str, np.ndarray]:
    """Make one phantom for each modality, all with the same outline.

    Parameters
    ----------
    modalities
        Names of the modalities.
    size, depth
        As in :func:`phantom`.

    Returns
    -------
    dict
        {modality: array (x, y, z)}, made by :func:`phantom`. Saved with :data:`AFFINE` as
        ``<modality>.nii.gz``, they form the folder of a patient.
    """
    return {name: phantom(size, depth, seed) for seed, name in enumerate(modalities)}


def patient_stack(modalities: Sequence[str] = MODALITIES, size: int = 32, depth: int = 4) -> Tensor:
    """Make the slices of the tiny patient in the layout for operators, samplers and training.

    Parameters
    ----------
    modalities
        Names of the M modalities.
    size, depth
        As in :func:`phantom`.

    Returns
    -------
    Tensor
        (B, M, H, W), float32, in [0, 1], with B = ``depth`` slices, the M modalities in their
        order, and H = W = ``size``.
    """
    volumes = patient_volumes(modalities, size, depth).values()
    stack = torch.stack([torch.from_numpy(volume / BRIGHTEST) for volume in volumes])
    return stack.permute(3, 0, 1, 2).contiguous()


def tiny_prior(
    modalities: Sequence[str] = MODALITIES,
    image_size: tuple[int, int] = (32, 32),
    seed: int = 0,
    **settings: Any,
) -> DiffusionPrior:
    """Build an untrained prior with the network of :data:`TINY_RECIPE`.

    Its draws are noise, but its shapes, devices and files are those of any prior. As in a loaded
    prior, its weights need no gradient.

    Parameters
    ----------
    modalities
        Names, in the order of the channels.
    image_size
        (H, W), multiples of 4.
    seed
        Seed of the weights.
    settings
        Other fields of :class:`any2all_core.PriorSettings`, such as ``levels``.

    Returns
    -------
    DiffusionPrior
        The prior in evaluation mode, on the CPU.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        images = StackFormat.of_names(modalities, image_size)
        given = {"prediction": "v", "patch": TINY_RECIPE.patch, **settings}
        prior = build_prior(TINY_RECIPE, PriorSettings(images, **given))
    return prior.eval().requires_grad_(False)
