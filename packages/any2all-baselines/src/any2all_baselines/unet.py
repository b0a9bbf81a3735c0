"""A U-Net like that of a prior, for stacks with additional constant planes."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import UNet2DModel
from torch import Tensor, nn

from any2all_baselines.images import padded


class Unet(nn.Module):
    """A diffusers ``UNet2DModel`` on patches of the images, with t and constant planes as inputs.

    It equals the network of a prior with these channels: two blocks per level, attention at the
    last level, and a group norm of 4 groups. ``inputs`` counts images and planes together.
    """

    def __init__(self, inputs: int, outputs: int, channels: tuple[int, ...], patch: int) -> None:
        super().__init__()
        self.patch, self.outputs = patch, outputs
        self.unit = patch * 2 ** (len(channels) - 1)
        plain = len(channels) - 1
        parts = patch**2
        self.unet = UNet2DModel(
            in_channels=outputs * parts + inputs - outputs,
            out_channels=outputs * parts,
            block_out_channels=channels,
            layers_per_block=2,
            down_block_types=("DownBlock2D",) * plain + ("AttnDownBlock2D",),
            up_block_types=("AttnUpBlock2D",) + ("UpBlock2D",) * plain,
            attention_head_dim=math.gcd(32, channels[-1]),
            norm_num_groups=4,
        )

    def forward(self, images: Tensor, t: Tensor, beside: Tensor) -> Tensor:
        """From images (B, M, H, W), t (B,) and planes ``beside`` (B, K, H, W) to (B, M, H, W)."""
        whole, cut = padded(images, self.unit)
        patches = F.pixel_unshuffle(whole, self.patch)
        rows, columns = patches.shape[2:]
        told = beside[:, :, :1, :1].expand(-1, -1, rows, columns)
        unet: Any = self.unet
        out = unet(torch.cat([patches, told], 1), t).sample
        return cut(F.pixel_shuffle(out, self.patch))
