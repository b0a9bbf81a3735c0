"""The networks of guided-diffusion and diffusers that are imported."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

State = dict[str, Tensor]


class Original:
    """A U-Net of guided-diffusion with random weights, by its own names and its own arithmetic.

    Written from the description in its paper and code; ``levels``: (width, attention) of each.
    """

    def __init__(
        self,
        channels: int,
        levels: tuple[tuple[int, bool], ...],
        blocks: int = 1,
        head: int = 16,
        learn_sigma: bool = False,
        scale_shift: bool = False,
        updown: bool = False,
        new_order: bool = False,
    ) -> None:
        self.levels, self.blocks, self.head = levels, blocks, head
        self.scale_shift, self.updown, self.new_order = scale_shift, updown, new_order
        self.state: State = {}
        self.random = torch.Generator().manual_seed(0)
        base = levels[0][0]
        self.add("time_embed.0", 4 * base, base)
        self.add("time_embed.2", 4 * base, 4 * base)
        self.add("input_blocks.0.0", base, channels, 3, 3)
        width, kept, k = base, [base], 1
        for level, (own, attends) in enumerate(levels):
            for _ in range(blocks):
                self.add_block(f"input_blocks.{k}.0", width, own, base)
                width = own
                if attends:
                    self.add_attention(f"input_blocks.{k}.1", width)
                kept.append(width)
                k += 1
            if level < len(levels) - 1:
                if updown:
                    self.add_block(f"input_blocks.{k}.0", width, width, base)
                else:
                    self.add(f"input_blocks.{k}.0.op", width, width, 3, 3)
                kept.append(width)
                k += 1
        self.add_block("middle_block.0", width, width, base)
        self.add_attention("middle_block.1", width)
        self.add_block("middle_block.2", width, width, base)
        k = 0
        for level, (own, attends) in reversed(list(enumerate(levels))):
            for place in range(blocks + 1):
                self.add_block(f"output_blocks.{k}.0", width + kept.pop(), own, base)
                width, last = own, 1
                if attends:
                    self.add_attention(f"output_blocks.{k}.1", width)
                    last = 2
                if level and place == blocks:
                    if updown:
                        self.add_block(f"output_blocks.{k}.{last}", width, width, base)
                    else:
                        self.add(f"output_blocks.{k}.{last}.conv", width, width, 3, 3)
                k += 1
        self.add("out.0", width)
        self.add("out.2", channels * (1 + learn_sigma), width, 3, 3)

    def draw(self, *shape: int) -> Tensor:
        fan = math.prod(shape[1:]) or 1
        return torch.randn(shape, generator=self.random) / fan**0.5

    def add(self, name: str, *shape: int) -> None:
        self.state[f"{name}.weight"] = self.draw(*shape)
        self.state[f"{name}.bias"] = 0.3 * self.draw(shape[0])

    def add_block(self, name: str, enters: int, leaves: int, base: int) -> None:
        self.add(f"{name}.in_layers.0", enters)
        self.add(f"{name}.in_layers.2", leaves, enters, 3, 3)
        self.add(f"{name}.emb_layers.1", leaves * (1 + self.scale_shift), 4 * base)
        self.add(f"{name}.out_layers.0", leaves)
        self.add(f"{name}.out_layers.3", leaves, leaves, 3, 3)
        if enters != leaves:
            self.add(f"{name}.skip_connection", leaves, enters, 1, 1)

    def add_attention(self, name: str, width: int) -> None:
        self.add(f"{name}.norm", width)
        self.add(f"{name}.qkv", 3 * width, width, 1)
        self.add(f"{name}.proj_out", width, width, 1)

    def both(self, name: str) -> tuple[Tensor, Tensor]:
        return self.state[f"{name}.weight"], self.state[f"{name}.bias"]

    def norm(self, name: str, x: Tensor) -> Tensor:
        return F.group_norm(x, 32, *self.both(name))

    def conv(self, name: str, x: Tensor, stride: int = 1) -> Tensor:
        weight, bias = self.both(name)
        return F.conv2d(x, weight, bias, stride, padding=weight.shape[-1] // 2)

    def block(self, name: str, x: Tensor, emb: Tensor, resample: str = "") -> Tensor:
        h = F.silu(self.norm(f"{name}.in_layers.0", x))
        if resample == "down":
            h, x = F.avg_pool2d(h, 2), F.avg_pool2d(x, 2)
        elif resample == "up":
            h, x = (F.interpolate(a, scale_factor=2, mode="nearest") for a in (h, x))
        h = self.conv(f"{name}.in_layers.2", h)
        said = F.linear(F.silu(emb), *self.both(f"{name}.emb_layers.1"))[..., None, None]
        if self.scale_shift:
            scale, shift = said.chunk(2, 1)
            h = self.norm(f"{name}.out_layers.0", h) * (1 + scale) + shift
        else:
            h = self.norm(f"{name}.out_layers.0", h + said)
        h = self.conv(f"{name}.out_layers.3", F.silu(h))
        skip = f"{name}.skip_connection"
        return h + (self.conv(skip, x) if f"{skip}.weight" in self.state else x)

    def attention(self, name: str, x: Tensor) -> Tensor:
        batch, width, *size = x.shape
        heads, flat = width // self.head, x.reshape(batch, width, -1)
        qkv = F.conv1d(self.norm(f"{name}.norm", flat), *self.both(f"{name}.qkv"))
        if self.new_order:
            q, k, v = (a.reshape(batch, heads, self.head, -1) for a in qkv.chunk(3, 1))
        else:
            q, k, v = qkv.reshape(batch, heads, 3 * self.head, -1).split(self.head, 2)
        weight = (q.transpose(2, 3) @ k / self.head**0.5).softmax(-1)
        h = (v @ weight.transpose(2, 3)).reshape(batch, width, -1)
        return (flat + F.conv1d(h, *self.both(f"{name}.proj_out"))).reshape(batch, width, *size)

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        half = self.levels[0][0] // 2
        angles = t[:, None] * torch.exp(-math.log(10000) * torch.arange(half) / half)
        emb = torch.cat([angles.cos(), angles.sin()], 1)
        emb = F.silu(F.linear(emb, *self.both("time_embed.0")))
        emb = F.linear(emb, *self.both("time_embed.2"))
        h = self.conv("input_blocks.0.0", x)
        kept, k = [h], 1
        for level, (_, attends) in enumerate(self.levels):
            for _ in range(self.blocks):
                h = self.block(f"input_blocks.{k}.0", h, emb)
                h = self.attention(f"input_blocks.{k}.1", h) if attends else h
                kept.append(h)
                k += 1
            if level < len(self.levels) - 1:
                name = f"input_blocks.{k}.0"
                down = self.block(name, h, emb, "down") if self.updown else None
                h = self.conv(f"{name}.op", h, 2) if down is None else down
                kept.append(h)
                k += 1
        h = self.block("middle_block.0", h, emb)
        h = self.block("middle_block.2", self.attention("middle_block.1", h), emb)
        k = 0
        for level, (_, attends) in reversed(list(enumerate(self.levels))):
            for place in range(self.blocks + 1):
                h = self.block(f"output_blocks.{k}.0", torch.cat([h, kept.pop()], 1), emb)
                h = self.attention(f"output_blocks.{k}.1", h) if attends else h
                if level and place == self.blocks:
                    name = f"output_blocks.{k}.{1 + attends}"
                    if self.updown:
                        h = self.block(name, h, emb, "up")
                    else:
                        large = F.interpolate(h, scale_factor=2, mode="nearest")
                        h = self.conv(f"{name}.conv", large)
                k += 1
        return self.conv("out.2", F.silu(self.norm("out.0", h)))
