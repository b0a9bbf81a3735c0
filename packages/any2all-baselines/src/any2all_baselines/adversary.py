"""The patch discriminators of MM-GAN and ResViT, which judge a stack modality by modality."""

from __future__ import annotations

from collections.abc import Callable

import torch
from any2all_core.method import Question
from any2all_operators import UserError
from torch import Tensor, nn

from any2all_baselines.losses import least_squares

LEAST = 32
"""Rows and columns below which a patch discriminator sees no patch."""
Judge = Callable[[Tensor], Tensor]
"""Stacks (B, M, H, W) to one map of each modality, (B, M, h, w)."""


def expect_size(size: tuple[int, int], name: str) -> None:
    """Raise UserError for slices that are too small for the discriminators."""
    if min(size) < LEAST:
        raise UserError(
            f"{name}: slices of {size[0]} x {size[1]}; its discriminator needs {LEAST} x {LEAST} "
            "at the least, resample them"
        )


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
