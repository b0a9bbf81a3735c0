"""DisC-Diff: diffusion with three encoders that separate common from distinct features."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from any2all_core.given import Guides, Scan
from any2all_core.method import MethodSettings, Question
from any2all_core.noise import Noise
from any2all_core.schedule import Schedule
from diffusers import UNet2DModel
from torch import Tensor, nn

from any2all_baselines.guided import Guided, GuidedNetwork, zero_filled
from any2all_baselines.images import padded
from any2all_baselines.losses import mean_over
from any2all_baselines.squeeze import SqueezeExcitation

REDUCTION = 8
GUARD = 1e-6
"""Added to the denominator of the disentanglement loss."""
SOFT = 1e-3
"""Smoothing of the Charbonnier loss √(e² + SOFT²)."""


@dataclass(frozen=True)
class DisCDiff(Guided):
    """A network that predicts ε̂ and a variance from the noisy target, A* y and the guides.

    Each of the three inputs has its own encoder. The loss is the sum of the Charbonnier loss of
    ε̂ − ε, the disentanglement loss, and the variational bound of the learnt variance with the mean
    held fixed. Sampling takes ``sampling_steps`` ancestral steps, evenly spaced in t, with x̂_0
    clipped. The schedule is linear with T = 1000. The optimizer is AdamW without weight decay, with
    a constant rate of 1e-4.

    ``channels`` has one entry per level of the U-Net, and ``blocks`` is the number of residual
    blocks per level. The last ``attention_levels`` levels have attention, with ``head_width``
    channels per head.

    Source: Mao et al. 2023, *DisC-Diff: disentangled conditional diffusion model for multi-contrast
    MRI super-resolution*, MICCAI. This implementation is written from a description, without the
    authors' code. It differs from the publication as follows:

    - The publication treats super-resolution. Here the low-resolution stream receives A* y.
    - Several guides are channels of one stream, with planes that tell which are given.
    - Slices are drawn as for every other method, without the curriculum by entropy, and augmented.
    - At t = 0 the bound uses the density of a Gaussian, not that of 256 grey levels.
    - The blocks of the U-Net are those of diffusers, in which attention begins at the given level.
    """

    decay: float = 0.0
    ema: float = 0.999
    clip_norm: float = 1.0
    channels: tuple[int, ...] = (32, 64, 96)
    blocks: int = 1
    attention_levels: int = 1
    head_width: int = 16
    sampling_steps: int = 20

    random: ClassVar[bool] = True
    presets: ClassVar = {
        "small": {},
        "tiny": {"channels": (8, 16), "head_width": 4, "coils": 2, "sampling_steps": 2},
        "paper": {
            "channels": (96, 96, 192, 192, 288, 288),
            "blocks": 2,
            "attention_levels": 3,
            "head_width": 48,
            "learning_rate": 1e-4,
            "ema": 0.9999,
            "batch_size": 5,
            "steps": 200_000,
            "warmup": 0,
            "clip_norm": 0.0,
        },
    }

    def build(self, settings: MethodSettings) -> nn.Module:
        place, count = self.place(settings), len(settings.modalities)
        return Disentangled(place, count, self)

    @property
    def calls(self) -> int:
        return self.sampling_steps

    @property
    def schedule(self) -> Schedule:
        return Schedule(1000, "linear")

    def losses(self, network: Any, question: Question) -> Iterator[tuple[str, Tensor]]:
        scan, guides, known = self.asked(network, question)
        x_0 = 2 * question.truth[:, scan.place] - 1
        epsilon = question.noise()[:, scan.place]
        t = (question.uniform() * self.schedule.steps).long()
        now, before = (a[:, None, None] for a in self._levels(t, x_0))
        x_t = now.sqrt() * x_0 + (1 - now).sqrt() * epsilon
        made, told, parts = network(x_t, t, zero_filled(scan), guides)
        distance = ((made - epsilon).square() + SOFT**2).sqrt()
        held = made.detach()
        bound = variational_bound(x_0, x_t, held, told, now=now, before=before)
        each = mean_over(known, (distance + bound)[:, None])
        yield "network", each + disentanglement(*parts)

    def _levels(self, t: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """ᾱ at t and at t − 1, (B,) each, where ᾱ is 1 at t = −1."""
        levels = self.schedule.alpha_bar.float().to(like.device)
        return levels[t], torch.where(t > 0, levels[(t - 1).clamp(min=0)], 1.0)

    def recover(self, network: Any, scan: Scan, guides: Guides, noise: Noise) -> Tensor:
        times: Sequence[int] = self.schedule.timesteps(self.sampling_steps, "uniform")
        levels = [float(self.schedule.alpha_bar[t]) for t in times] + [1.0]
        low, x = zero_filled(scan), noise()[:, scan.place]
        for k, t in enumerate(times):
            now, before = x.new_tensor(levels[k]), x.new_tensor(levels[k + 1])
            each = torch.full((len(x),), t, device=x.device)
            made, told, _ = network(x, each, low, guides)
            mean, log_variance = step_back(x, made.float(), told.float(), now=now, before=before)
            x = mean
            if k < len(times) - 1:
                x = mean + (log_variance / 2).exp() * noise()[:, scan.place]
        return network.in_place((x + 1) / 2)


class Disentangled(GuidedNetwork):
    """The network: from x_t and A* y, (B, H, W), t and guides to ε̂ and the variance parameter.

    It also returns the common and the distinct features of the three streams.
    """

    def __init__(self, place: int, modalities: int, of: DisCDiff) -> None:
        super().__init__(place, modalities)
        self.unit = 2 ** (len(of.channels) - 1)
        self.whole = _unet(1, of)
        self.low, self.guide = Encoder(_unet(1, of)), Encoder(_unet(2 * (modalities - 1), of))
        wide = of.channels[-1]
        half = wide // 2
        self.common = nn.Sequential(nn.Conv2d(wide, half, 3, 1, 1), nn.SiLU())
        self.distinct = nn.Sequential(nn.Conv2d(wide, half, 3, 1, 1), nn.SiLU())
        self.squeeze = nn.ModuleList(SqueezeExcitation(half, REDUCTION) for _ in range(4))
        self.join = nn.Sequential(nn.Conv2d(4 * half, wide, 1), nn.SiLU())

    def forward(
        self, x_t: Tensor, t: Tensor, low: Tensor, guides: Guides
    ) -> tuple[Tensor, Tensor, tuple[list[Tensor], list[Tensor]]]:
        unet = self.whole
        seen = [x_t[:, None], 2 * low[:, None] - 1, self.guides(guides)]
        streams, cuts = zip(*(padded(images, self.unit) for images in seen), strict=True)
        time = unet.time_embedding(unet.time_proj(t).to(x_t.dtype))
        found = [
            encoded(part, images, time)
            for part, images in zip((unet, self.low, self.guide), streams, strict=True)
        ]
        skips = [torch.stack(maps).mean(0) for maps in zip(*found, strict=True)]
        common = [self.common(maps[-1]) for maps in found]
        distinct = [self.distinct(maps[-1]) for maps in found]
        parts = [*distinct, torch.stack(common).mean(0)]
        h = self.join(torch.cat([s(p) for s, p in zip(self.squeeze, parts, strict=True)], 1))
        h = unet.mid_block(h, time)
        for block in unet.up_blocks:
            count = len(block.resnets)
            skips, own = skips[:-count], skips[-count:]
            h = block(h, tuple(own), time)
        out = cuts[0](unet.conv_out(unet.conv_act(unet.conv_norm_out(h))))
        return out[:, 0], out[:, 1], (common, distinct)


class Encoder(nn.Module):
    """The encoder of a U-Net."""

    def __init__(self, unet: Any) -> None:
        super().__init__()
        self.conv_in, self.down_blocks = unet.conv_in, unet.down_blocks


def encoded(part: Any, images: Tensor, time: Tensor) -> list[Tensor]:
    """All feature maps of a U-Net's encoder. The last one enters the bottleneck."""
    h = part.conv_in(images)
    maps = [h]
    for block in part.down_blocks:
        h, own = block(h, time)
        maps += own
    return maps


def disentanglement(common: Sequence[Tensor], distinct: Sequence[Tensor]) -> Tensor:
    """The mean square differences between common parts, divided by those between distinct parts."""
    return _apart(common) / (_apart(distinct) + GUARD)


def _apart(parts: Sequence[Tensor]) -> Tensor:
    a, b, c = parts
    return (a - b).square().mean() + (a - c).square().mean() + (b - c).square().mean()


def step_back(
    x_t: Tensor, epsilon: Tensor, told: Tensor, *, now: Tensor, before: Tensor
) -> tuple[Tensor, Tensor]:
    """Mean and log variance of x at ᾱ = ``before``, given x_t at ᾱ = ``now``.

    The network's output ``told``, in [−1, 1], interpolates the log variance between that of
    q(x_{t−1} | x_t, x_0) and log β (Nichol & Dhariwal 2021, eq. 15).
    """
    x_0 = ((x_t - (1 - now).sqrt() * epsilon) / now.sqrt()).clamp(-1, 1)
    return posterior_mean(x_0, x_t, now, before), log_variance(told, now, before)


def posterior_mean(x_0: Tensor, x_t: Tensor, now: Tensor, before: Tensor) -> Tensor:
    """E[x_{t−1} | x_t, x_0] (Ho 2020, eq. 7)."""
    beta = 1 - now / before
    of_0 = before.sqrt() * beta / (1 - now)
    return of_0 * x_0 + (now / before).sqrt() * (1 - before) / (1 - now) * x_t


def log_variance(told: Tensor, now: Tensor, before: Tensor) -> Tensor:
    """The log variance that the network predicts, between its two bounds."""
    beta = 1 - now / before
    least = posterior_log_variance(now, before)
    share = (told + 1) / 2
    return share * beta.log() + (1 - share) * least


def posterior_log_variance(now: Tensor, before: Tensor) -> Tensor:
    """log(β (1 − ᾱ_{t−1})/(1 − ᾱ_t)); log(β/2) at t = 0, where this variance would be 0."""
    beta = 1 - now / before
    least = torch.where(before < 1, beta * (1 - before) / (1 - now), beta / 2)
    return least.clamp(min=1e-20).log()


def variational_bound(
    x_0: Tensor, x_t: Tensor, epsilon: Tensor, told: Tensor, *, now: Tensor, before: Tensor
) -> Tensor:
    """KL(q(x_{t−1} | x_t, x_0) ‖ p) at each pixel, in bits; −log p(x_0) at t = 0."""
    mean, wide = step_back(x_t, epsilon, told, now=now, before=before)
    truth, narrow = posterior_mean(x_0, x_t, now, before), posterior_log_variance(now, before)
    gap = (truth - mean).square()
    divergence = (wide - narrow + (narrow - wide).exp() + gap * (-wide).exp() - 1) / 2
    likelihood = (wide + math.log(2 * math.pi) + (x_0 - mean).square() * (-wide).exp()) / 2
    return torch.where(before < 1, divergence, likelihood) / math.log(2)


def _unet(inputs: int, of: DisCDiff) -> Any:
    plain = len(of.channels) - of.attention_levels
    return UNet2DModel(
        in_channels=inputs,
        out_channels=2,
        block_out_channels=of.channels,
        layers_per_block=of.blocks,
        down_block_types=("DownBlock2D",) * plain + ("AttnDownBlock2D",) * of.attention_levels,
        up_block_types=("AttnUpBlock2D",) * of.attention_levels + ("UpBlock2D",) * plain,
        attention_head_dim=of.head_width,
        norm_num_groups=math.gcd(32, *of.channels),
        resnet_time_scale_shift="scale_shift",
        downsample_type="resnet",
        upsample_type="resnet",
    )
