"""What MM-GAN and ResViT share: a generator against a discriminator that judges patches."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from any2all_core.method import Ability, Method, MethodSettings, Question
from any2all_operators import UserError
from torch import Tensor, nn

from any2all_baselines.losses import least_squares

LEAST = 32
"""Rows and columns below which a patch discriminator sees no patch."""
Judge = Callable[[Tensor], Tensor]
"""Stacks (B, M, H, W) to one map of each modality, (B, M, h, w)."""


@dataclass(frozen=True)
class Adversarial(Method):
    """A generator and a discriminator, each stepped by an Adam of its own, betas 0.5 and 0.999."""

    abilities: ClassVar[frozenset[Ability]] = frozenset({"synthesis", "generation"})
    random: ClassVar[bool] = True

    @abstractmethod
    def generator(self, settings: MethodSettings) -> nn.Module:
        """The untrained generator."""

    @abstractmethod
    def discriminator(self, settings: MethodSettings) -> nn.Module:
        """The untrained discriminator."""

    def build(self, settings: MethodSettings) -> nn.Module:
        """Both, begun as in pix2pix. Raises UserError for slices in which there is no patch."""
        rows, columns = settings.image_size
        if min(rows, columns) < LEAST:
            raise UserError(
                f"{type(self).__name__.lower()}: slices of {rows} x {columns}; its discriminator "
                f"needs {LEAST} x {LEAST} at the least, resample them"
            )
        parts = {
            "generator": self.generator(settings),
            "discriminator": self.discriminator(settings),
        }
        network = nn.ModuleDict(parts)
        initialise(network)
        return network

    def optimizers(self, network: nn.Module) -> dict[str, torch.optim.Optimizer]:
        return {
            name: torch.optim.Adam(part.parameters(), lr=self.learning_rate, betas=(0.5, 0.999))
            for name, part in network.named_children()
        }


def deceive(judge: Judge, stack: Tensor) -> Tensor:
    """What the generator of a completed stack minimises: that all of it passes for true."""
    return least_squares(judge(stack), 1.0)


def tell_apart(judge: Judge, stack: Tensor, true: Tensor, question: Question) -> Tensor:
    """What the discriminator minimises: half the sum for a true and for a completed stack.

    Of a completed stack the maps of given modalities shall be 1, and those of made ones 0. An image
    that a patient lacks is the same in both, so its maps shall be 1, too.
    """
    told = (~question.wanted)[:, :, None, None].to(stack.dtype)
    made = judge(stack.detach())
    return (least_squares(judge(true), 1.0) + least_squares(made, told.expand_as(made))) / 2


def blocks(
    inputs: int, width: int, strides: tuple[int, ...], norm: type[nn.Module]
) -> nn.Sequential:
    """Convolutions 4 x 4 with LeakyReLU 0.2, each twice as wide; no norm in the first."""
    layers: list[nn.Module] = []
    before = inputs
    for k, stride in enumerate(strides):
        after = width * min(2**k, 8)
        layers.append(nn.Conv2d(before, after, 4, stride, 1))
        layers += [norm(after)] if k else []
        layers.append(nn.LeakyReLU(0.2))
        before = after
    return nn.Sequential(*layers)


@torch.no_grad()
def initialise(network: nn.Module) -> None:
    """Convolutions ~ N(0, 0.02²), scales of norms ~ N(1, 0.02²), shifts 0, as in pix2pix."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(module.weight, 0.0, 0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1.0, 0.02)
            nn.init.zeros_(module.bias)
