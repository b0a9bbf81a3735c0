"""Runs of training on a few phantoms."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from any2all_core import DiffusionPrior, PriorSettings, StackFormat
from any2all_core.examples import InMemory
from any2all_core.loop import Augment, Progress, TrainingData, TrainingRun
from any2all_core.recipe import Recipe
from any2all_core.testing import MODALITIES, TINY_RECIPE, patient_stack
from any2all_core.training import train

SETTINGS = PriorSettings(StackFormat.of_names(MODALITIES, (32, 32)))


def of_images(names: tuple[str, ...], size: tuple[int, int] = (32, 32)) -> PriorSettings:
    return PriorSettings(StackFormat.of_names(names, size))


def slices(count: int = 12) -> torch.Tensor:
    return patient_stack(depth=count)


def flipped(x_0: torch.Tensor, generators: Sequence[torch.Generator]) -> torch.Tensor:
    """An augmentation: each slice is turned left-right where its own generator says so."""
    turn = [float(torch.rand((), generator=generator)) < 0.5 for generator in generators]
    return torch.stack([x.flip(-1) if t else x for x, t in zip(x_0, turn, strict=True)])


def in_float32(output: Path) -> TrainingRun:
    return TrainingRun(output, precision="float32")


def run(
    output: Path,
    recipe: Recipe = TINY_RECIPE,
    augment: Augment = flipped,
    start_from: DiffusionPrior | None = None,
    **options: Any,
) -> list[Progress]:
    """options: of a TrainingRun."""
    seen: list[Progress] = []
    x = slices()
    data = TrainingData(InMemory(x), x[:4], augment)
    here = TrainingRun(output, **{"report": seen.append, "precision": "float32", **options})
    train(data, SETTINGS, recipe, here, start_from=start_from)
    return seen
