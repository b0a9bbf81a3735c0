"""The network of M2DN: one encoder and one decoder per modality around a shared U-Net."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from diffusers.models.embeddings import get_timestep_embedding
from torch import Tensor, nn

from any2all_baselines.images import padded
from any2all_baselines.squeeze import SqueezeExcitation

GROUPS = 8
UNIT = 16
REDUCTION = 16


class Modular(nn.Module):
    """The network: from a stack (B, M, H, W), t and a mask (B, M, ...) to (B, M, H, W).

    With ``width`` w, the encoders have w channels at H/2 and 2w at H/4, which are fused to 4w. The
    U-Net has 4w, 4w and 8w channels at H/4, H/8 and H/16. The decoders mirror the encoders.
    """

    def __init__(self, modalities: int, width: int) -> None:
        super().__init__()
        w = width
        self.time_width = 4 * w
        self.time = nn.Sequential(nn.Linear(4 * w, 8 * w), nn.SiLU(), nn.Linear(8 * w, 8 * w))
        self.encoders = nn.ModuleList(Encoder(w) for _ in range(modalities))
        self.fuse = nn.Conv2d(2 * w * modalities, 4 * w, 1)
        self.first = Block(4 * w, 4 * w, 8 * w)
        self.second = Block(4 * w, 4 * w, 8 * w)
        self.lowest = Block(4 * w + modalities, 8 * w, 8 * w)
        self.second_up = Block(8 * w + 4 * w, 4 * w, 8 * w)
        self.first_up = Block(4 * w + 4 * w, 4 * w, 8 * w)
        self.decoders = nn.ModuleList(Decoder(w) for _ in range(modalities))

    def forward(self, images: Tensor, t: Tensor, missing: Tensor) -> Tensor:
        whole, cut = padded(images, UNIT)
        time = self.time(get_timestep_embedding(t, self.time_width))
        seen = [encode(whole[:, m : m + 1]) for m, encode in enumerate(self.encoders)]
        first = self.first(self.fuse(torch.cat([quarter for _, quarter in seen], 1)), time)
        second = self.second(halved(first), time)
        low = halved(second)
        told = missing[:, :, :1, :1].expand(-1, -1, *low.shape[2:])
        low = self.lowest(torch.cat([low, told], 1), time)
        second = self.second_up(torch.cat([doubled(low), second], 1), time)
        first = self.first_up(torch.cat([doubled(second), first], 1), time)
        pairs = zip(self.decoders, seen, strict=True)
        return cut(torch.cat([decode(first, half) for decode, (half, _) in pairs], 1))


class Encoder(nn.Module):
    """From an image (B, 1, H, W) to feature maps at H/2 and H/4."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(1, width, 3, 2, 1), nn.GroupNorm(GROUPS, width), nn.ReLU()
        )
        self.at_half = Block(width, width)
        self.at_quarter = Block(width, 2 * width)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        half = self.at_half(self.stem(image))
        return half, self.at_quarter(halved(half))


class Decoder(nn.Module):
    """From fused feature maps at H/4 and an encoder's maps at H/2 to an image (B, 1, H, W)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.at_quarter = Block(4 * width, 2 * width)
        self.at_half = Block(3 * width, width)
        self.head = nn.Conv2d(width, 1, 3, padding=1)

    def forward(self, fused: Tensor, half: Tensor) -> Tensor:
        h = self.at_half(torch.cat([doubled(self.at_quarter(fused)), half], 1))
        return self.head(doubled(h))


class Block(nn.Module):
    """A residual block with channel attention and an optional time embedding."""

    def __init__(self, inputs: int, outputs: int, time: int = 0) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.norms = nn.ModuleList(nn.GroupNorm(GROUPS, outputs) for _ in range(2))
        self.second = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.time = nn.Linear(time, outputs) if time else None
        self.attention = SqueezeExcitation(outputs, REDUCTION)
        self.skip = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, h: Tensor, time: Tensor | None = None) -> Tensor:
        inside = self.norms[0](self.first(h))
        if self.time is not None and time is not None:
            inside = inside + self.time(F.silu(time))[:, :, None, None]
        inside = self.norms[1](self.second(F.relu(inside)))
        return F.relu(self.attention(inside) + self.skip(h))


def halved(h: Tensor) -> Tensor:
    """Halve the size by bilinear interpolation."""
    return F.interpolate(h, scale_factor=0.5, mode="bilinear")


def doubled(h: Tensor) -> Tensor:
    """Double the size by bilinear interpolation."""
    return F.interpolate(h, scale_factor=2, mode="bilinear")
