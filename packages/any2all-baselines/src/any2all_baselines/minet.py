"""MINet: two branches with channel attention, in which the target uses the guide's features."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from any2all_core.given import Guides, Scan
from any2all_core.method import MethodSettings, Question
from any2all_core.noise import Noise
from torch import Tensor, nn

from any2all_baselines.guided import Guided, GuidedNetwork, zero_filled
from any2all_baselines.losses import mean_over
from any2all_baselines.squeeze import SqueezeExcitation

TARGET, GUIDE = 0.3, 0.7
LARGEST = 6.0
"""Number of standard deviations at which normalised images are clipped."""
REDUCTION = 16


@dataclass(frozen=True)
class MINet(Guided):
    """A network that makes x̂ and ĝ from A* y and the guides g.

    The loss is 0.3 |x̂ − x| + 0.7 |ĝ − g|. Each of the two branches has ``groups`` residual groups
    of ``blocks`` channel-attention blocks on ``features`` maps. After each stage, a 1 x 1
    convolution of both branches is added to the target's branch. All stages of both branches pass
    through attention over stages, and the last stage through attention over channels and pixels.
    The target is normalised with the mean and standard deviation of A* y.

    Source: Feng et al. 2021, *Multi-contrast MRI super-resolution via a multi-stage integration
    network*, MICCAI. This implementation is written from a description, without the authors' code,
    which does not run as published. It differs from the publication as follows:

    - The publication treats super-resolution. Here the target has its full size, so the upsampler
      at its head becomes the identity, and only its last convolution remains.
    - Several guides are channels of the reference branch, with 0 for missing ones and with planes
      that tell which are given. The loss includes only given guides.
    - The optimizer is Adam with a linearly falling rate, instead of RMSprop with 1e-5.
    """

    decay: float = 1.0
    features: int = 32
    groups: int = 3
    blocks: int = 3

    presets: ClassVar = {
        "small": {},
        "tiny": {"features": 8, "groups": 1, "blocks": 1, "coils": 2},
        "paper": {
            "features": 64,
            "groups": 6,
            "blocks": 6,
            "learning_rate": 1e-4,
            "batch_size": 4,
        },
    }

    def build(self, settings: MethodSettings) -> nn.Module:
        place, count = self.place(settings), len(settings.modalities)
        return Integration(
            place, count, features=self.features, groups=self.groups, blocks=self.blocks
        )

    def losses(self, network: Any, question: Question) -> Iterator[tuple[str, Tensor]]:
        scan, guides, known = self.asked(network, question)
        image, mean, std = normalised(scan)
        made, remade = network(image, guides)
        truth = ((question.truth[:, scan.place] - mean) / std).clamp(-LARGEST, LARGEST)
        target = mean_over(known, (made - truth).abs()[:, None])
        others = network.others
        wanted = guides.available[:, others]
        guide = mean_over(wanted, (remade - guides.images[:, others]).abs())
        yield "network", TARGET * target + GUIDE * guide

    def recover(self, network: Any, scan: Scan, guides: Guides, noise: Noise) -> Tensor:
        image, mean, std = normalised(scan)
        made, remade = network(image, guides)
        return network.in_place(made * std + mean, remade)


def normalised(scan: Scan) -> tuple[Tensor, Tensor, Tensor]:
    """A* y (B, H, W), normalised and clipped, and its mean and standard deviation, (B, 1, 1)."""
    image = zero_filled(scan)
    mean = image.mean((1, 2), keepdim=True)
    std = image.std((1, 2), keepdim=True).clamp(min=1e-3)
    return ((image - mean) / std).clamp(-LARGEST, LARGEST), mean, std


class Integration(GuidedNetwork):
    """The network: from A* y (B, H, W) and guides to target (B, H, W), guides (B, M−1, H, W)."""

    def __init__(
        self, place: int, modalities: int, *, features: int, groups: int, blocks: int
    ) -> None:
        super().__init__(place, modalities)
        f, count = features, len(self.others)
        self.head = nn.Sequential(convolution(1, f), convolution(f, f))
        self.head_of_guides = convolution(2 * count, f)
        stages = groups + 1
        self.stages = nn.ModuleList([*(Group(f, blocks) for _ in range(groups)), convolution(f, f)])
        self.stages_of_guides = nn.ModuleList(
            [*(Group(f, blocks) for _ in range(groups)), convolution(f, f)]
        )
        self.handed = nn.ModuleList(nn.Conv2d(2 * f, f, 1) for _ in range(stages))
        self.over_stages = StageAttention(2 * stages, f)
        self.over_places, self.over_places_of_guides = PlaceAttention(), PlaceAttention()
        self.join = convolution(2 * f, f)
        self.last = convolution(f, 1)
        self.join_of_guides = convolution(f, f)
        self.last_of_guides = convolution(f, count)

    def forward(self, image: Tensor, guides: Guides) -> tuple[Tensor, Tensor]:
        first, first_guide = self.head(image[:, None]), self.head_of_guides(self.guides(guides))
        h, g, seen = first, first_guide, []
        for own, guide, hand in zip(self.stages, self.stages_of_guides, self.handed, strict=True):
            h, g = own(h), guide(g)
            h = h + hand(torch.cat([h, g], 1))
            seen += [h, g]
        both = torch.cat([self.over_stages(torch.stack(seen, 1)), self.over_places(h)], 1)
        remade = self.join_of_guides(self.over_places_of_guides(g)) + first_guide
        return self.last(self.join(both) + first)[:, 0], self.last_of_guides(remade)


class Group(nn.Module):
    """Residual group of channel-attention blocks and a convolution, as in RCAN."""

    def __init__(self, features: int, blocks: int) -> None:
        super().__init__()
        inside = [*(AttentionBlock(features) for _ in range(blocks))]
        self.inside = nn.Sequential(*inside, convolution(features, features))

    def forward(self, h: Tensor) -> Tensor:
        return h + self.inside(h)


class AttentionBlock(nn.Module):
    """Residual block of two convolutions and channel attention."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.inside = nn.Sequential(
            convolution(features, features),
            nn.ReLU(),
            convolution(features, features),
            SqueezeExcitation(features, REDUCTION),
        )

    def forward(self, h: Tensor) -> Tensor:
        return h + self.inside(h)


class StageAttention(nn.Module):
    """Attention over N stages (B, N, C, H, W) with weights softmax(row maximum − Gram matrix)."""

    def __init__(self, stages: int, features: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(()))
        self.last = convolution(stages * features, features)

    def forward(self, seen: Tensor) -> Tensor:
        rows = seen.flatten(2)
        gram = rows @ rows.mT
        weights = (gram.amax(2, keepdim=True) - gram).softmax(2)
        mixed = (weights @ rows).view_as(seen)
        return self.last((seen + self.gamma * mixed).flatten(1, 2))


class PlaceAttention(nn.Module):
    """h (1 + γ σ(conv(h))) with a 3 x 3 x 3 convolution over channel, row and column.

    σ is the sigmoid, and γ is learnt, starting at 0.
    """

    def __init__(self) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(()))
        self.inside = nn.Conv3d(1, 1, 3, padding=1)

    def forward(self, h: Tensor) -> Tensor:
        return h * (1 + self.gamma * self.inside(h[:, None])[:, 0].sigmoid())


def convolution(inputs: int, outputs: int) -> nn.Conv2d:
    """A 3 x 3 convolution that keeps the image size."""
    return nn.Conv2d(inputs, outputs, 3, padding=1)
