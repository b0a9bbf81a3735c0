"""Conversion of weights of openai/guided-diffusion, which the paper used, to a diffusers U-Net.

Both have the same architecture with different names: Dhariwal & Nichol 2021, arXiv 2105.05233,
app. C; https://github.com/openai/guided-diffusion, ``guided_diffusion/unet.py``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from any2all_operators import UserError
from torch import Tensor

GROUPS = 32  # groups of every group norm in guided-diffusion
RESIDUAL = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
ENDS = {
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
    "input_blocks.0.0": "conv_in",
    "out.0": "conv_norm_out",
    "out.2": "conv_out",
}


@dataclass(frozen=True)
class Heads:
    """Attention settings that the weights do not contain, under guided-diffusion's own names.

    ``num_heads`` may replace ``num_head_channels`` if all attention layers have the same width.
    """

    num_head_channels: int = 0
    num_heads: int = 0
    use_new_attention_order: bool = False


def convert(
    state: Mapping[str, Tensor], channels: int, heads: Heads
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Convert weights to config and state of a diffusers ``UNet2DModel`` that computes the same.

    ``state`` is that of a guided-diffusion U-Net without classes, and ``channels`` is the number of
    images in a stack. If the network has learned variances (learn_sigma), only the output of the
    mean is kept.

    Raises UserError if this is not such a network, or if diffusers has no equivalent.
    """
    _check(state, channels)
    layout = _Layout(state)
    widths = {state[f"{where}.norm.weight"].shape[0] for where in layout.attention}
    head_channels = heads.num_head_channels
    if heads.num_heads and not head_channels:
        if len(widths) > 1:
            raise UserError(
                f"num_heads={heads.num_heads} with attention of widths {sorted(widths)}: all heads "
                "must have one width; give num_head_channels if the network had it"
            )
        head_channels = next(iter(widths)) // heads.num_heads
    if not head_channels or any(width % head_channels for width in widths):
        raise UserError(
            f"num_head_channels={head_channels}: attention is {sorted(widths)} wide, and the "
            "weights don't say in how many heads; give num_head_channels or num_heads"
        )
    new = dict(layout.rename(state, replace(heads, num_head_channels=head_channels)))
    for name in ("conv_out.weight", "conv_out.bias"):
        new[name] = new[name][:channels]
    config = {
        "in_channels": channels,
        "out_channels": channels,
        "block_out_channels": layout.widths,
        "layers_per_block": layout.blocks,
        "down_block_types": [layout.kind("Down", level) for level in range(layout.levels)],
        "up_block_types": [layout.kind("Up", level) for level in reversed(range(layout.levels))],
        "attention_head_dim": head_channels,
        "norm_num_groups": GROUPS,
        "attn_norm_num_groups": GROUPS,  # for the middle block
        "resnet_time_scale_shift": "scale_shift" if layout.scale_shift else "default",
        "downsample_type": "resnet" if layout.residual_resampling else "conv",
        "upsample_type": "resnet" if layout.residual_resampling else "conv",
    }
    return config, new


class _Layout:
    """The layout of a network, inferred from the names and shapes of its weights."""

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        numbers = [int(m[1]) for k in state if (m := re.match(r"input_blocks\.(\d+)\.", k))]
        self.inputs = max(numbers) + 1
        self.attention = sorted(
            {k[: -len(".qkv.weight")] for k in state if k.endswith("qkv.weight")}
        )
        # an input block halves by a convolution ("op"), or by a residual block at a level's end
        self.residual_resampling = not any(".op." in k for k in state)
        self.ends = self._halvings(state)
        if any(
            f"input_blocks.{k}.0.in_layers.0.weight" not in state and k not in self.ends
            for k in range(1, self.inputs)
        ):
            raise UserError("halves by average pooling (conv_resample off): diffusers has no equal")
        self.levels = len(self.ends) + 1
        self.blocks = (self.inputs - self.levels) // self.levels
        starts = range(1, self.inputs, self.blocks + 1)
        self.widths = [self._width(state, f"input_blocks.{k}.0") for k in starts]
        self.scale_shift = self._scale_shift(state)
        embedded = state["time_embed.0.weight"].shape[1]
        if embedded != self.widths[0]:
            raise UserError(
                f"its first level is {self.widths[0]} wide and its time embedding {embedded} "
                "(channel_mult beginning below 1): diffusers has no equal"
            )

    def _halvings(self, state: Mapping[str, Tensor]) -> list[int]:
        if not self.residual_resampling:
            return [k for k in range(self.inputs) if f"input_blocks.{k}.0.op.weight" in state]
        # output blocks that double the size have one residual block more than the others
        doubles = sum(
            1
            for k in range(self.inputs)
            if f"output_blocks.{k}.{self._last(state, k)}.in_layers.0.weight" in state
            and self._last(state, k) > 0
        )
        step = self.inputs // (doubles + 1)
        return [k * step for k in range(1, doubles + 1)]

    @staticmethod
    def _last(state: Mapping[str, Tensor], block: int) -> int:
        parts = [
            int(m[1]) for k in state if (m := re.match(rf"output_blocks\.{block}\.(\d+)\.", k))
        ]
        return max(parts, default=0)

    @staticmethod
    def _width(state: Mapping[str, Tensor], where: str) -> int:
        return state[f"{where}.out_layers.3.weight"].shape[0]

    def _scale_shift(self, state: Mapping[str, Tensor]) -> bool:
        where = "middle_block.0"
        return state[f"{where}.emb_layers.1.weight"].shape[0] == 2 * self._width(state, where)

    def kind(self, way: str, level: int) -> str:
        """Name of the diffusers block of a level."""
        first = level * (self.blocks + 1) + 1
        if f"input_blocks.{first}.1" in self.attention:
            return f"Attn{way}Block2D"
        return f"Resnet{way}sampleBlock2D" if self.residual_resampling else f"{way}Block2D"

    def rename(self, state: Mapping[str, Tensor], heads: Heads) -> Iterator[tuple[str, Tensor]]:
        homes = dict(self._homes(state))
        for name, value in state.items():
            where = next((end for end in ENDS if name.startswith(f"{end}.")), None)
            if where is not None:
                yield name.replace(where, ENDS[where], 1), value
                continue
            block = ".".join(name.split(".")[: 2 if name.startswith("middle") else 3])
            rest = name[len(block) + 1 :]
            home = homes[block]
            if rest.startswith(("norm.", "qkv.", "proj_out.")):
                yield from _attention(home, rest, value, heads)
            elif rest.startswith(("op.", "conv.")):
                yield f"{home}.conv.{rest.split('.', 1)[1]}", value
            else:
                part = next(part for part in RESIDUAL if rest.startswith(f"{part}."))
                yield f"{home}.{rest.replace(part, RESIDUAL[part], 1)}", value

    def _homes(self, state: Mapping[str, Tensor]) -> Iterator[tuple[str, str]]:
        """The name in diffusers of each block of guided-diffusion."""
        yield from (
            ("middle_block.0", "mid_block.resnets.0"),
            ("middle_block.1", "mid_block.attentions.0"),
            ("middle_block.2", "mid_block.resnets.1"),
        )
        for k in range(1, self.inputs):
            level, place = divmod(k - 1, self.blocks + 1)
            down = f"down_blocks.{level}"
            if place == self.blocks:
                yield f"input_blocks.{k}.0", f"{down}.downsamplers.0"
            else:
                yield f"input_blocks.{k}.0", f"{down}.resnets.{place}"
                yield f"input_blocks.{k}.1", f"{down}.attentions.{place}"
        for k in range(self.inputs):
            level, place = divmod(k, self.blocks + 1)
            up = f"up_blocks.{level}"
            yield f"output_blocks.{k}.0", f"{up}.resnets.{place}"
            last = self._last(state, k)
            if last and f"output_blocks.{k}.1" in self.attention:
                yield f"output_blocks.{k}.1", f"{up}.attentions.{place}"
            if last and f"output_blocks.{k}.{last}" not in self.attention:
                yield f"output_blocks.{k}.{last}", f"{up}.upsamplers.0"


def _attention(home: str, rest: str, value: Tensor, heads: Heads) -> Iterator[tuple[str, Tensor]]:
    part, kind = rest.split(".")
    if part == "norm":
        yield f"{home}.group_norm.{kind}", value
        return
    flat = value.squeeze(-1) if kind == "weight" else value  # 1 x 1 convolution to matrix
    if part == "proj_out":
        yield f"{home}.to_out.0.{kind}", flat
        return
    if heads.use_new_attention_order:  # q of all heads, then k, then v
        q, k, v = flat.chunk(3)
    else:  # q, k and v of each head
        width = heads.num_head_channels
        parts = flat.unflatten(0, (flat.shape[0] // (3 * width), 3, width))
        q, k, v = (a.flatten(0, 1) for a in parts.unbind(1))
    for name, matrix in {"q": q, "k": k, "v": v}.items():
        yield f"{home}.to_{name}.{kind}", matrix.contiguous()


def _check(state: Mapping[str, Tensor], channels: int) -> None:
    needed = (
        "time_embed.0.weight",
        "input_blocks.0.0.weight",
        "middle_block.1.qkv.weight",
        "out.2.weight",
    )
    if missing := [name for name in needed if name not in state]:
        raise UserError(f"no U-Net of guided-diffusion: it lacks {', '.join(missing)}")
    if "label_emb.weight" in state:
        raise UserError("trained with classes (label_emb): a prior has none")
    enters, leaves = state["input_blocks.0.0.weight"].shape[1], state["out.2.weight"].shape[0]
    if enters != channels or leaves not in (channels, 2 * channels):
        raise UserError(
            f"takes {enters} images and gives {leaves}; expected {channels} modalities as input, "
            f"and {channels} or, with learned variances, {2 * channels} as output"
        )
    if not all(
        isinstance(value, Tensor) and torch.is_floating_point(value) for value in state.values()
    ):
        raise UserError("not a state_dict; expected names and tensors of floating-point numbers")
