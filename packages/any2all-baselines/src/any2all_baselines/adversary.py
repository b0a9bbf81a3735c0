"""The adversarial training of MM-GAN and ResViT: a generator and a patch discriminator."""

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
"""Smallest number of rows and columns for a patch discriminator."""
Judge = Callable[[Tensor], Tensor]
"""A function from stacks (B, M, H, W) to one map per modality, (B, M, h, w)."""


@dataclass(frozen=True)
class Adversarial(Method):
    """A generator and a discriminator, each with its own Adam optimizer, betas 0.5 and 0.999."""

    abilities: ClassVar[frozenset[Ability]] = frozenset({"synthesis", "generation"})
    random: ClassVar[bool] = True

    @abstractmethod
    def generator(self, settings: MethodSettings) -> nn.Module:
        """Build the untrained generator."""

    @abstractmethod
    def discriminator(self, settings: MethodSettings) -> nn.Module:
        """Build the untrained discriminator."""

    def build(self, settings: MethodSettings) -> nn.Module:
        """Build both, initialised as in pix2pix. Raises UserError if slices are too small."""
        rows, columns = settings.image_size
        if min(rows, columns) < LEAST:
            raise UserError(
                f"{type(self).__name__.lower()}: slices of {rows} x {columns}; its discriminator "
                f"needs at least {LEAST} x {LEAST}, resample them"
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
    """The adversarial loss of the generator: all maps of its completed stack should be 1."""
    return least_squares(judge(stack), 1.0)


def tell_apart(judge: Judge, stack: Tensor, true: Tensor, question: Question) -> Tensor:
    """The loss of the discriminator: the mean of its losses for a true and a completed stack.

    In a completed stack, the maps of given modalities should be 1 and those of generated ones 0. An
    image that a patient lacks is the same in both stacks, so its map should be 1, too.
    """
    told = (~question.wanted)[:, :, None, None].to(stack.dtype)
    made = judge(stack.detach())
    return (least_squares(judge(true), 1.0) + least_squares(made, told.expand_as(made))) / 2


def blocks(
    inputs: int, width: int, strides: tuple[int, ...], norm: type[nn.Module]
) -> nn.Sequential:
    """4 x 4 convolutions with LeakyReLU 0.2, whose width doubles; the first one has no norm."""
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
    """Initialise as in pix2pix: convolutions N(0, 0.02²), norm scales N(1, 0.02²), shifts 0."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(module.weight, 0.0, 0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1.0, 0.02)
            nn.init.zeros_(module.bias)
