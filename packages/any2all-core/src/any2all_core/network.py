"""Building the network of a prior from a recipe."""

from __future__ import annotations

import math

from any2all_operators import UserError

from any2all_core.prior import DiffusionPrior
from any2all_core.prior_settings import PriorSettings
from any2all_core.recipe import Recipe


def build_prior(recipe: Recipe, settings: PriorSettings) -> DiffusionPrior:
    """Build an untrained prior with the network of a recipe.

    Raises UserError if the images are too small for its levels.
    """
    from diffusers import UNet2DModel

    levels, attention = len(recipe.channels), recipe.attention_levels
    unit = recipe.patch * 2 ** (levels - 1)
    if min(settings.image_size) < unit:
        raise UserError(
            f"slices of {' x '.join(map(str, settings.image_size))} are too small for a network of "
            f"{levels} levels and patch {recipe.patch}, which halves {unit} pixels to 1; take "
            f"fewer channels, such as --set channels={recipe.channels[0]}+{recipe.channels[-1]}"
        )
    plain = levels - attention
    channels = len(settings.modalities) * recipe.patch**2
    told = len(settings.modalities) if settings.levels == "separate" else 0
    unet = UNet2DModel(
        sample_size=tuple(n // recipe.patch for n in settings.image_size),
        in_channels=channels + told,
        out_channels=channels,
        block_out_channels=recipe.channels,
        layers_per_block=recipe.blocks,
        down_block_types=("DownBlock2D",) * plain + ("AttnDownBlock2D",) * attention,
        up_block_types=("AttnUpBlock2D",) * attention + ("UpBlock2D",) * plain,
        attention_head_dim=math.gcd(32, recipe.channels[-1]),
        norm_num_groups=recipe.norm_groups,
    )
    return DiffusionPrior(unet, settings)
