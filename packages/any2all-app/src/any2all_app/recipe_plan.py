"""Plan a recipe for a cohort and a machine, and estimate its memory."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from any2all_core.hardware import Machine
from any2all_core.network import build_prior
from any2all_core.prior_settings import PriorSettings
from any2all_core.recipe import Recipe
from any2all_core.stack_format import StackFormat
from torch import Tensor

from any2all_app.training_time import StepTime

COARSEST = 8
"""Smallest side of the network's last level, in pixels. That of the recipe small is 8 for 128."""
CPU_BATCH, GPU_BATCH = 16, 128
MANY = 5
"""Smallest number of modalities for which the learning rate and batch of the recipe small are
unstable; see docs/training.md."""
SHARE = 0.6
"""Largest share of the memory that a batch may use."""
PROGRAM = 500_000_000
"""Bytes that Python, PyTorch and their libraries need."""
COPIES = 6
"""Float32 copies of the weights: weights, gradients, average, two moments, and the validated
copy."""


@dataclass(frozen=True)
class Fingerprint:
    """The facts of a cohort that determine the recipe.

    - ``modalities``: in channel order.
    - ``size``: (H, W) of a slice.
    - ``patients``: number of patients for training.
    - ``held_out``: number of patients for validation.
    - ``slices``: number of all slices of the training patients.
    - ``spacing``: voxel size (x, y, z) in mm, None if patients differ in it.
    """

    modalities: tuple[str, ...]
    size: tuple[int, int]
    patients: int
    held_out: int
    slices: int
    spacing: tuple[float, float, float] | None = None

    def __str__(self) -> str:
        voxels = "voxels of different sizes"
        if self.spacing is not None:
            voxels = f"voxels of {' x '.join(f'{mm:g}' for mm in self.spacing)} mm"
        return (
            f"{self.patients} patients for training, {self.held_out} held out; "
            f"{', '.join(self.modalities)}; {self.slices:,} slices of "
            f"{' x '.join(map(str, self.size))}, {voxels}"
        )

    def settings(self, recipe: Recipe) -> PriorSettings:
        """Return the settings of the prior that a recipe trains on this cohort."""
        return PriorSettings(
            StackFormat.of_names(self.modalities, self.size),
            prediction=recipe.prediction,
            levels=recipe.levels,
            patch=recipe.patch,
            diffusion_steps=recipe.diffusion_steps,
        )


@dataclass(frozen=True)
class Plan:
    """A recipe with the cohort and machine for which it was planned.

    ``memory`` is what training needs, in bytes. ``time`` is the time of a step, if it was measured.
    """

    fingerprint: Fingerprint
    machine: Machine
    recipe: Recipe
    memory: int
    time: StepTime | None = None

    @property
    def seconds(self) -> float | None:
        """Duration of the whole training in seconds; None if no step was timed."""
        return None if self.time is None else self.recipe.steps * self.time.mean(self.recipe)

    @property
    def available(self) -> int:
        """Available memory in bytes: that of the GPU, or the machine's free memory."""
        return self.machine.gpu_memory or self.machine.memory

    @property
    def fits(self) -> bool:
        """Whether there is enough memory."""
        return self.memory <= self.available


def plan_recipe(fingerprint: Fingerprint, machine: Machine, network: Recipe | None = None) -> Plan:
    """Adapt the recipe ``small``, made for slices of 128 x 128, to a cohort and a machine.

    The network has as many of small's levels as possible, with at least 8 x 8 pixels in the last.
    If ``network`` is given, its network is used instead. A step has 16 slices, or 128 on a GPU,
    and is divided into parts if memory is short. The learning rate of steps of 16 slices is lower
    for five or more modalities.
    """
    recipe = network or Recipe()
    if network is None:
        side = min(fingerprint.size) / recipe.patch / COARSEST
        levels = 1 + max(1, min(len(recipe.channels) - 1, int(math.log2(max(side, 1)))))
        recipe = replace(recipe, channels=recipe.channels[:levels])
    batch = GPU_BATCH if machine.gpu else CPU_BATCH
    if len(fingerprint.modalities) >= MANY and batch == CPU_BATCH:
        recipe = replace(recipe, learning_rate=4e-4, warmup=500)
    fixed, each = memory_of(recipe, fingerprint, machine.bfloat16)
    room = SHARE * (machine.gpu_memory or machine.memory) - fixed
    parts = 1
    while batch // parts > 1 and batch // parts * each > room:
        parts *= 2
    recipe = replace(recipe, batch_size=batch // parts, accumulate=parts)
    return Plan(fingerprint, machine, recipe, fixed + recipe.batch_size * each)


def memory_of(recipe: Recipe, fingerprint: Fingerprint, bfloat16: bool) -> tuple[int, int]:
    """Estimate the bytes that training needs for any batch, and those for each example.

    The latter are counted by running the network on tensors without values: the tensors that it
    keeps for its gradient, and twice the largest of them for temporary results.
    """
    with torch.device("meta"):
        prior = build_prior(recipe, fingerprint.settings(recipe))
        weights = {p.untyped_storage()._cdata: p.numel() for p in prior.parameters()}
        images = torch.empty(1, len(fingerprint.modalities), *fingerprint.size)
        times = torch.zeros(1, len(fingerprint.modalities), dtype=torch.long)
        kept: dict[int, int] = {}

        def keep(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            if storage._cdata not in weights:
                kept[storage._cdata] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            out = prior.predict(images, times)  # its graph keeps the tensors that are counted
        activations = sum(kept.values()) + 2 * max(kept.values(), default=0)
        del out
    count = sum(weights.values())
    working = 2 * 2 * count if bfloat16 else 0  # a bfloat16 copy of the weights, and gradients
    fixed = PROGRAM + 4 * COPIES * count + working
    return fixed, activations // 2 if bfloat16 else activations
