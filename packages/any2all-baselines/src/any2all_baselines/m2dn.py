"""M2DN: a conditional diffusion model that inpaints whole modalities and predicts x_0."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from any2all_core.method import Ability, Method, MethodSettings, Question
from any2all_core.noise import Noise
from any2all_core.schedule import Schedule
from torch import Tensor, nn

from any2all_baselines.images import mixed, planes
from any2all_baselines.losses import mean_over
from any2all_baselines.modular import Modular
from any2all_baselines.unet import Unet


@dataclass(frozen=True)
class M2DN(Method):
    """A diffusion model that noises only the missing modalities and predicts x_0 of the stack.

    x_{t,m} = x_m if given, and √ᾱ x_m + √(1−ᾱ) ε if missing. The network receives x_t, t and the
    mask v of missing modalities. It minimises ‖x̂_0(x_t, t, v) − x‖² over the whole stack, including
    given images. Sampling takes ``sampling_steps`` steps of DDIM, evenly spaced in t, and replaces
    given images by clean ones in each. The schedule is cosine with T = 1000.

    ``network`` selects the architecture:

    - modular: one encoder and one decoder per modality around a U-Net with squeeze and excitation
      (Hu 2018), where the mask enters at the lowest level. The publication gives 128 channels there
      at 16 x 16; the other widths are chosen here.
    - lite: the prior's kind of U-Net (diffusers), with one plane per modality that tells whether it
      is missing. It separates the effect of the training scheme from that of the architecture.

    Source: M2DN, IEEE TMI 2024. There is no public code; this is written from a description.
    Schedule, learning rate, batch size and weight averaging are not published, so those of the
    prior are used. Unlike the source, nothing is given with probability 0.05, and slices are
    augmented.
    """

    learning_rate: float = 1e-3
    ema: float = 0.999
    clip_norm: float = 1.0
    network: Literal["lite", "modular"] = "lite"
    channels: tuple[int, ...] = (64, 128, 192, 160)
    patch: int = 2
    width: int = 32
    sampling_steps: int = 50

    abilities: ClassVar[frozenset[Ability]] = frozenset({"synthesis", "generation"})
    random: ClassVar[bool] = True
    presets: ClassVar = {
        "small": {},
        "tiny": {"channels": (8, 16), "sampling_steps": 2},
        "paper": {
            "network": "modular",
            "learning_rate": 1e-4,
            "ema": 0.9999,
            "decay": 0.0,
            "batch_size": 24,
        },
    }

    def build(self, settings: MethodSettings) -> nn.Module:
        count = len(settings.modalities)
        if self.network == "modular":
            return Modular(count, self.width)
        return Unet(2 * count, count, self.channels, self.patch)

    @property
    def calls(self) -> int:
        return self.sampling_steps

    @property
    def schedule(self) -> Schedule:
        return Schedule()

    def losses(self, network: Any, question: Question) -> Iterator[tuple[str, Tensor]]:
        x = 2 * question.truth - 1
        t = (question.uniform() * self.schedule.steps).long()
        level = self.schedule.alpha_bar.float().to(x.device)[t][:, None, None, None]
        noisy = level.sqrt() * x + (1 - level).sqrt() * question.noise()
        made = network(mixed(question.available, x, noisy), t, planes(~question.available, x))
        yield "network", mean_over(question.present, (made - x).square())

    def complete(self, network: Any, given: Tensor, available: Tensor, noise: Noise) -> Tensor:
        clean, missing = 2 * given - 1, planes(~available, given)
        times = self.schedule.timesteps(self.sampling_steps, "uniform")
        levels = self.schedule.alpha_bar.float().to(given.device)
        x, x_0 = noise(), clean
        for t, following in zip(times, [*times[1:], None], strict=True):
            x = mixed(available, clean, x)
            each = torch.full((len(x),), t, device=x.device)
            x_0 = network(x, each, missing).float().clamp(-1, 1)
            if following is not None:
                level, less = levels[t], levels[following]
                epsilon = (x - level.sqrt() * x_0) / (1 - level).sqrt()
                x = less.sqrt() * x_0 + (1 - less).sqrt() * epsilon
        return (x_0 + 1) / 2
