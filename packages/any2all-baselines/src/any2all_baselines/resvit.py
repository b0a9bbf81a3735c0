"""ResViT: residual convolutions, with two transformer branches that share weights."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from any2all_core.method import MethodSettings, Question
from any2all_core.noise import Noise
from torch import Tensor, nn

from any2all_baselines.adversary import Adversarial, blocks, deceive, tell_apart
from any2all_baselines.images import mixed, padded, planes
from any2all_baselines.losses import mean_over

UNIT = 16
PIXELS = 100.0
"""Weight of the mean absolute error relative to the adversarial loss."""
BLOCKS = 9
WITH_TRANSFORMER = (0, 5)
"""Indices of the blocks that begin with a transformer branch."""
TOKENS = 16
"""Number of rows and columns of tokens."""


@dataclass(frozen=True)
class ResViT(Adversarial):
    """A GAN x̂ = G(x · a, a, z) with an encoder, nine residual blocks and a decoder.

    Two of the blocks have a transformer branch, which sees the whole image. G minimises
    100 · mean |x̂ − x| over the missing and again over the given images, plus the least squares GAN
    loss of a patch discriminator that also receives the given images. The optimizers are Adam with
    betas 0.5 and 0.999, and the rate falls over the second half of the training. ``width`` is the
    number of channels of the first layer. ``token_width``, ``layers`` and ``heads`` describe the
    transformer; the preset ``paper`` has those of the ViT-B/16 encoder.

    Source: Dalmaz, Yurt & Çukur 2022, *ResViT: residual vision transformers for multimodal medical
    image synthesis*, IEEE TMI. This implementation is written from a description, without the
    authors' code. It differs from the publication as follows:

    - It is many-to-many, like the paper's unified model, with M outputs, planes that tell which
      images are given, a plane of noise, and a discriminator with one map per modality. Nothing is
      given with probability 0.05.
    - It is trained in one stage from scratch, with a rate of 2e-4 that rises over 500 steps. The
      publication has two stages. Its second one starts from ImageNet weights of the transformer
      with a rate of 1e-3.
    - For slices below 192 rows or columns, the branches halve the image once less, so that there
      are about 16 x 16 tokens.
    """

    decay: float = 0.5
    warmup: int = 500
    width: int = 16
    token_width: int = 192
    layers: int = 4
    heads: int = 6

    presets: ClassVar = {
        "small": {},
        "tiny": {"width": 8, "token_width": 16, "layers": 1, "heads": 2},
        "paper": {
            "width": 64,
            "token_width": 768,
            "layers": 12,
            "heads": 12,
            "batch_size": 1,
            "steps": 500_000,
        },
    }

    def generator(self, settings: MethodSettings) -> nn.Module:
        return Generator(
            settings,
            self.width,
            token_width=self.token_width,
            layers=self.layers,
            heads=self.heads,
        )

    def discriminator(self, settings: MethodSettings) -> nn.Module:
        return Discriminator(len(settings.modalities), self.width)

    def losses(self, network: Any, question: Question) -> Iterator[tuple[str, Tensor]]:
        x, available = 2 * question.truth - 1, question.available
        made = network["generator"](*inputs(x, available, question.noise()))
        errors = (made - x).abs()
        pixels = mean_over(question.wanted, errors) + mean_over(available, errors)
        stack = mixed(question.wanted, made, x)
        judge = network["discriminator"].given(*inputs(x, available, None))
        yield "generator", PIXELS * pixels + deceive(judge, stack)
        yield "discriminator", tell_apart(judge, stack, x, question)

    def complete(self, network: Any, given: Tensor, available: Tensor, noise: Noise) -> Tensor:
        made = network["generator"](*inputs(2 * given - 1, available, noise()))
        return (made + 1) / 2


def inputs(images: Tensor, available: Tensor, noise: Tensor | None) -> tuple[Tensor, ...]:
    """The given images with 0 for missing ones, planes of which are given, and a noise plane."""
    given = mixed(available, images, torch.zeros_like(images))
    told = planes(available, images)
    return (given, told) if noise is None else (given, told, noise[:, :1])


class Generator(nn.Module):
    """The generator: from images, planes and noise, 2M + 1 channels, to (B, M, H, W) in [−1, 1]."""

    def __init__(
        self, settings: MethodSettings, width: int, *, token_width: int, layers: int, heads: int
    ) -> None:
        super().__init__()
        count, w = len(settings.modalities), width
        self.encoder = nn.Sequential(
            nn.ReflectionPad2d(3),
            *normed(nn.Conv2d(2 * count + 1, w, 7, bias=False)),
            *normed(nn.Conv2d(w, 2 * w, 3, 2, 1, bias=False)),
            *normed(nn.Conv2d(2 * w, 4 * w, 3, 2, 1, bias=False)),
        )
        self.transformer = transformer(token_width, layers, heads)
        grid = tuple(-(-n // UNIT) * UNIT // 4 for n in settings.image_size)
        self.branches = nn.ModuleList(Branch(4 * w, grid, token_width) for _ in WITH_TRANSFORMER)
        self.residuals = nn.ModuleList(Residual(4 * w) for _ in range(BLOCKS))
        self.decoder = nn.Sequential(
            *normed(nn.ConvTranspose2d(4 * w, 2 * w, 3, 2, 1, 1, bias=False)),
            *normed(nn.ConvTranspose2d(2 * w, w, 3, 2, 1, 1, bias=False)),
            nn.ReflectionPad2d(3),
            nn.Conv2d(w, count, 7),
            nn.Tanh(),
        )

    def forward(self, *parts: Tensor) -> Tensor:
        whole, cut = padded(torch.cat(parts, 1), UNIT)
        h = self.encoder(whole)
        branches = dict(zip(WITH_TRANSFORMER, self.branches, strict=True))
        for k, residual in enumerate(self.residuals):
            h = residual(branches[k](h, self.transformer) if k in branches else h)
        return cut(self.decoder(h))


class Branch(nn.Module):
    """A branch that fuses feature maps (B, C, h, w) with a transformer over all their pixels."""

    def __init__(self, channels: int, grid: tuple[int, ...], token_width: int) -> None:
        super().__init__()
        halvings = 2 if min(grid) >= 3 * TOKENS else 1
        strides = (2,) * halvings + (1,) * (2 - halvings)
        c = channels
        self.down = nn.Sequential(
            *normed(nn.Conv2d(c, 2 * c, 3, strides[0], 1, bias=False)),
            *normed(nn.Conv2d(2 * c, 4 * c, 3, strides[1], 1, bias=False)),
        )
        self.embed = nn.Conv2d(4 * c, token_width, 1)
        places = [n // 2**halvings for n in grid]
        self.position = nn.Parameter(torch.zeros(1, places[0] * places[1], token_width))
        self.dropout = nn.Dropout(0.1)
        self.up = nn.Sequential(
            *normed(raised(token_width, 2 * c, strides[1])),
            *normed(raised(2 * c, c, strides[0])),
        )
        self.squeeze = nn.Sequential(
            *normed(nn.Conv2d(2 * c, c, 3, padding=1, bias=False)),
            nn.Conv2d(c, c, 3, padding=1, bias=False),
            nn.BatchNorm2d(c),
        )
        self.skip = nn.Sequential(nn.Conv2d(2 * c, c, 1, bias=False), nn.BatchNorm2d(c))

    def forward(self, h: Tensor, shared: nn.Module) -> Tensor:
        grid = self.embed(self.down(h))
        tokens = self.dropout(grid.flatten(2).mT + self.position)
        both = torch.cat([self.up(shared(tokens).mT.reshape(grid.shape)), h], 1)
        return F.relu(self.squeeze(both) + self.skip(both))


class Residual(nn.Module):
    """A residual block of two 3 x 3 convolutions."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.inside = nn.Sequential(
            nn.ReflectionPad2d(1),
            *normed(nn.Conv2d(channels, channels, 3, bias=False)),
            nn.ReflectionPad2d(1),
            nn.Conv2d(channels, channels, 3, bias=False),
            nn.BatchNorm2d(channels),
        )

    def forward(self, h: Tensor) -> Tensor:
        return h + self.inside(h)


class Discriminator(nn.Module):
    """From given images, their planes and a stack, 3M channels, to one map per modality."""

    def __init__(self, modalities: int, width: int) -> None:
        super().__init__()
        self.blocks = blocks(3 * modalities, width, (2, 2, 2, 1), nn.BatchNorm2d)
        self.head = nn.Conv2d(8 * width, modalities, 4, padding=1)

    def given(self, *known: Tensor) -> Any:
        """The discriminator as a function of a stack, for these given images and planes."""
        return lambda stack: self.head(self.blocks(torch.cat([*known, stack], 1)))


def transformer(width: int, layers: int, heads: int) -> nn.Module:
    """The encoder of a ViT: pre-norm layers with GELU, MLPs of 4 times the width, a final norm."""
    layer = nn.TransformerEncoderLayer(
        width, heads, 4 * width, 0.1, "gelu", batch_first=True, norm_first=True
    )
    last = nn.LayerNorm(width)
    encoder = nn.TransformerEncoder(layer, layers, last, enable_nested_tensor=False)
    for parameter in encoder.parameters():  # torch makes its layers as copies of one
        if parameter.ndim > 1:
            nn.init.xavier_uniform_(parameter)
    return encoder


def normed(convolution: nn.Conv2d | nn.ConvTranspose2d) -> tuple[nn.Module, ...]:
    """A convolution, followed by batch norm and ReLU."""
    return convolution, nn.BatchNorm2d(convolution.out_channels), nn.ReLU()


def raised(inputs: int, outputs: int, stride: int) -> nn.ConvTranspose2d:
    """A transposed convolution that enlarges feature maps by ``stride``."""
    return nn.ConvTranspose2d(inputs, outputs, 3, stride, 1, stride - 1, bias=False)
