"""Recipes: what a prior's network is, and how it is trained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from any2all_operators import UserError

from any2all_core.prior import Prediction


@dataclass(frozen=True)
class Recipe:
    """Network and optimisation. ``small()`` suits two cores, ``paper()`` is the publication's.

    ``learning_rate`` rises linearly for ``warmup`` steps and falls linearly to zero over the last
    ``decay`` fraction; the EMA's decay is min(ema, (1+step)/(10+step)).
    """

    prediction: Prediction = "v"
    channels: tuple[int, ...] = (64, 128, 192, 160)
    blocks: int = 2
    attention_levels: int = 1
    norm_groups: int = 4
    patch: int = 2
    diffusion_steps: int = 1000
    steps: int = 7000
    batch_size: int = 16
    learning_rate: float = 1e-3
    warmup: int = 200
    decay: float = 0.35
    ema: float = 0.999
    clip_norm: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("blocks", "norm_groups", "patch", "diffusion_steps", "steps", "batch_size"):
            if getattr(self, name) < 1:
                raise UserError(f"recipe: {name}={getattr(self, name)}, expected at least 1")
        if self.seed < 0 or not self.learning_rate > 0:
            raise UserError(
                f"recipe: seed={self.seed}, learning_rate={self.learning_rate}; expected a seed of "
                "at least 0 and a rate above 0"
            )
        if any(width % self.norm_groups for width in self.channels):
            raise UserError(
                f"recipe: channels {self.channels} don't divide into norm_groups={self.norm_groups}"
            )

    @staticmethod
    def small() -> Recipe:
        """14 M parameters at half resolution: two hours on two cores with AMX."""
        return Recipe()

    @staticmethod
    def paper() -> Recipe:
        """ε-prediction, constant rate, EMA 0.9999 (arXiv 2602.08249); needs GPUs."""
        return Recipe(
            prediction="epsilon",
            channels=(128, 128, 256, 256, 512, 512),
            attention_levels=2,
            norm_groups=32,
            patch=1,
            steps=1_500_000,
            batch_size=24,
            learning_rate=1e-4,
            warmup=0,
            decay=0.0,
            ema=0.9999,
        )


PRESETS: dict[str, Callable[[], Recipe]] = {"small": Recipe.small, "paper": Recipe.paper}
