"""A recipe for a cohort and a machine, and the memory that it takes."""

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
"""Pixels a side that the network's last level has at least; small's has 8 of 128."""
CPU_BATCH, GPU_BATCH = 16, 128
MANY = 5
"""Modalities from which on small's rate is too high at small's batch; see docs/training.md."""
SHARE = 0.6
"""A batch may take this share of the memory that is there."""
PROGRAM = 500_000_000
"""Bytes that Python, PyTorch and what they load take themselves."""
COPIES = 6
"""Float32 copies of the weights: weights, gradients, average, two moments, a judged copy."""


@dataclass(frozen=True)
class Fingerprint:
    """What of a cohort decides how a prior is trained on it.

    ``size``: (H, W) of a slice; ``slices``: of the ``patients`` who train, all that are stored;
    ``held_out``: patients who validate; ``spacing``: mm of (x, y, z) voxels, None where patients
    differ in it.
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
            f"{self.patients} patients to train on, {self.held_out} held out; "
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
    """A recipe and what it was made for.

    ``memory``: bytes that its training takes; ``time``: of a step, where it was measured.
    """

    fingerprint: Fingerprint
    machine: Machine
    recipe: Recipe
    memory: int
    time: StepTime | None = None

    @property
    def seconds(self) -> float | None:
        """Seconds that the whole training takes; None if no step was timed."""
        return None if self.time is None else self.recipe.steps * self.time.mean(self.recipe)

    @property
    def available(self) -> int:
        """Bytes that there are for it: of the GPU, or free in the machine."""
        return self.machine.gpu_memory or self.machine.memory

    @property
    def fits(self) -> bool:
        """Whether there is enough memory."""
        return self.memory <= self.available


def plan_recipe(fingerprint: Fingerprint, machine: Machine, network: Recipe | None = None) -> Plan:
    """A recipe by what was measured of ``small``, which it is for slices of 128 x 128.

    The network has as many of small's levels as leave 8 pixels a side to the last one; with
    ``network`` it is that of this recipe. A step takes 16 slices, and 128 on a GPU, in as many
    parts as memory asks for. Of five modalities or more the rate of steps of 16 is lower.
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
    """Bytes that training takes whatever the batch, and those of each example in it.

    The latter are all that the network keeps for its gradient, counted by running it on tensors
    without values, and twice its largest part, for what is being made.
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
            out = prior.predict(images, times)  # its graph keeps what is counted
        activations = sum(kept.values()) + 2 * max(kept.values(), default=0)
        del out
    count = sum(weights.values())
    working = 2 * 2 * count if bfloat16 else 0  # a copy that computes, and its gradients
    fixed = PROGRAM + 4 * COPIES * count + working
    return fixed, activations // 2 if bfloat16 else activations
