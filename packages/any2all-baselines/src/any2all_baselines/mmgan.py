"""MM-GAN: one generator and one discriminator for any given and missing modalities."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from any2all_core.given import proper_subsets
from any2all_core.method import MethodSettings, Question
from any2all_core.noise import Noise
from torch import Tensor, nn

from any2all_baselines.adversary import Adversarial, blocks, deceive, tell_apart
from any2all_baselines.images import mixed, padded
from any2all_baselines.losses import mean_over

STAGES = 6
"""Number of training stages of equal length, each of which allows one more missing image."""
ADVERSARIAL = 0.1
DROPPED = 0.2


@dataclass(frozen=True)
class MMGAN(Adversarial):
    """A GAN with implicit conditioning: missing channels are imputed at the generator's input.

    Given images replace the generator's output. The generator G is a pix2pix U-Net with ``levels``
    levels of ``width`` to 8 ``width`` channels. It minimises 0.9 · mean |x̂ − x| over missing
    images + 0.1 · the least squares GAN loss. The discriminator D receives the completed and the
    true stack, and returns one map per modality. Training begins with one missing image, and each
    sixth of it allows one more. The optimizers are Adam with a constant rate of 2e-4, betas 0.5 and
    0.999.

    Source: Sharma & Hamarneh 2020, *Missing MRI pulse sequence synthesis using multi-modal
    generative adversarial network*, IEEE TMI. This implementation is written from a description,
    without the authors' code. It differs from the publication as follows:

    - Missing channels are imputed with independent N(0, 1) noise instead of zeros, so that two
      seeds give two answers. The model can therefore generate all images; at the end of training,
      nothing is given with probability 0.05.
    - The last layer is tanh on [−1, 1] instead of ReLU on images divided by their means, because
      all methods use the cohort's scaling.
    - The subset is drawn for each example, not for each batch, and slices are augmented.
    - Slices whose sides are not divisible by 2^levels are padded. ``small`` has 5 levels of half
      the width.
    """

    decay: float = 0.0
    warmup: int = 0
    width: int = 32
    levels: int = 5

    presets: ClassVar = {
        "small": {},
        "tiny": {"width": 8, "levels": 3},
        "paper": {"width": 64, "levels": 8, "batch_size": 4, "steps": 444_000},
    }

    def generator(self, settings: MethodSettings) -> nn.Module:
        return Generator(len(settings.modalities), self.width, self.levels)

    def discriminator(self, settings: MethodSettings) -> nn.Module:
        return Discriminator(len(settings.modalities), self.width)

    def given_in_training(
        self, present: Tensor, generators: Sequence[torch.Generator], done: float
    ) -> Tensor:
        missing = 1 + int(done * STAGES)
        last = missing >= present.shape[1] - 1
        return proper_subsets(present, generators, nothing=last, most_missing=missing)

    def losses(self, network: Any, question: Question) -> Iterator[tuple[str, Tensor]]:
        x = 2 * question.truth - 1
        shown = mixed(question.available, x, question.noise())
        # an image that a patient lacks is the same in both stacks
        stack = mixed(question.wanted, network["generator"](shown), x)
        pixels = mean_over(question.wanted, (stack - x).abs())
        judge = network["discriminator"].beside(x)
        yield "generator", (1 - ADVERSARIAL) * pixels + ADVERSARIAL * deceive(judge, stack)
        yield "discriminator", tell_apart(judge, stack, x, question)

    def complete(self, network: Any, given: Tensor, available: Tensor, noise: Noise) -> Tensor:
        made = network["generator"](mixed(available, 2 * given - 1, noise()))
        return (made + 1) / 2


class Generator(nn.Module):
    """A U-Net from (B, M, H, W) to (B, M, H, W), in [−1, 1]."""

    def __init__(self, modalities: int, width: int, levels: int) -> None:
        super().__init__()
        self.unit = 2**levels
        widths = [width * min(2**k, 8) for k in range(levels)]
        self.down = nn.ModuleList()
        before = modalities
        for k, after in enumerate(widths):
            ends = k in (0, levels - 1)
            layers: list[nn.Module] = [nn.Conv2d(before, after, 4, 2, 1, bias=False)]
            layers += [] if ends else [nn.InstanceNorm2d(after)]
            layers += [nn.LeakyReLU(0.2), nn.Dropout(DROPPED if k >= 3 else 0.0)]
            self.down.append(nn.Sequential(*layers))
            before = after
        self.up = nn.ModuleList()
        for k, after in enumerate(reversed(widths[:-1])):
            self.up.append(
                nn.Sequential(
                    nn.ConvTranspose2d(before, after, 4, 2, 1, bias=False),
                    nn.InstanceNorm2d(after),
                    nn.ReLU(),
                    nn.Dropout(DROPPED if k < 4 else 0.0),
                )
            )
            before = 2 * after
        self.head = nn.Conv2d(before, modalities, 4, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        h, cut = padded(images, self.unit)
        maps = []
        for down in self.down:
            h = down(h)
            maps.append(h)
        maps.pop()
        for up in self.up:
            h = torch.cat([up(h), maps.pop()], 1)
        h = F.pad(F.interpolate(h, scale_factor=2), (1, 0, 1, 0))
        return cut(self.head(h).tanh())


class Discriminator(nn.Module):
    """From the completed and the true stack, (B, M, H, W) each, to one map per modality."""

    def __init__(self, modalities: int, width: int) -> None:
        super().__init__()
        self.blocks = blocks(2 * modalities, width, (2, 2, 2, 2), nn.InstanceNorm2d)
        self.head = nn.Conv2d(8 * width, modalities, 4, padding=1, bias=False)

    def beside(self, true: Tensor) -> Any:
        """The discriminator as a function of a stack, beside the true one."""
        return lambda stack: self(torch.cat([stack, true], 1))

    def forward(self, stacks: Tensor) -> Tensor:
        return self.head(F.pad(self.blocks(stacks), (1, 0, 1, 0)))
