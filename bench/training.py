"""Training speed: a whole step, compared with its limit, with float32 and with a plain U-Net.

    python bench/training.py [--modalities 5] [--rounds 5] [--batch 16]

The limit is the sum of the network's convolutions and linear layers alone, forward and backward, at
the shapes, precision and memory layout of the step. The whole step is that of
:func:`any2all_core.training.train`: examples read from a cohort in a temporary folder (random
numbers, because only the shapes matter), augmentation, forward, backward, clipping, Adam and the
EMA. ``plain`` trains as openai/guided-diffusion does: float32, group norm of 32 groups, no patches,
contiguous memory, Adam and EMA tensor by tensor. Its width makes forward and backward take about as
many operations. Rounds take turns, so that a slower machine slows all alike. The times are medians.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from any2all_core import DiffusionPrior, PriorSettings, StackFormat
from any2all_core.hardware import choose_device, choose_dtype
from any2all_core.loop import Progress, TrainingData, TrainingRun
from any2all_core.network import build_prior
from any2all_core.recipe import Recipe
from any2all_core.training import train
from any2all_data.augment import augment
from any2all_data.cohort_entry import Entry
from any2all_data.cohort_slices import CohortSlices
from any2all_data.kinds import stack_format
from any2all_data.store import CohortStore
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

SIZE, STEPS = 128, 3


def now() -> float:
    """Seconds, after all work of the GPU is done."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def cohort(folder: Path, modalities: tuple[str, ...]) -> CohortSlices:
    store = CohortStore.create(str(folder), stack_format(modalities, (SIZE, SIZE)))
    images = np.random.default_rng(0).random((64, len(modalities), SIZE, SIZE)).astype(np.float32)
    scale = dict.fromkeys(modalities, 1.0)
    store.write("p", images, Entry("train", np.eye(4).tolist(), list(modalities), scale=scale))
    return CohortSlices(store, store.patients(), modalities)


def whole_step(
    examples: CohortSlices, settings: PriorSettings, recipe: Recipe, precision: str
) -> float:
    """Seconds per step of train(), after the first one, which includes the set-up."""
    moments: list[float] = []

    def report(_: Progress) -> None:
        moments.append(now())

    recipe = dataclasses.replace(recipe, steps=STEPS + 1, coarse=0.0)
    with tempfile.TemporaryDirectory() as folder:
        validation = examples.read(range(2))
        run = TrainingRun(Path(folder), precision=precision, report=report)
        train(TrainingData(examples, validation, augment), settings, recipe, run)
    # the last step also validates and saves
    return statistics.median(np.diff(moments[:-1]))


def limit(prior: DiffusionPrior, x: Tensor, t: Tensor) -> Callable[[], float]:
    """Forward and backward of every convolution and linear layer by itself."""
    calls: list[tuple[nn.Module, Tensor]] = []

    def keep(layer: nn.Module, inputs: tuple[Tensor, ...], _: Tensor) -> None:
        calls.append((layer, inputs[0].detach()))

    layers = [m for m in prior.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    hooks = [layer.register_forward_hook(keep) for layer in layers]
    prior.predict(x, t)
    for hook in hooks:
        hook.remove()

    def run() -> float:
        seconds = 0.0
        for layer, given in calls:
            leaf = given.clone(memory_format=torch.preserve_format).requires_grad_()
            layer.zero_grad(set_to_none=True)
            start = now()
            out = layer(leaf)
            seconds += now() - start
            gradient = torch.ones_like(out)
            start = now()
            out.backward(gradient)
            seconds += now() - start
        return seconds

    return run


def operations(prior: DiffusionPrior, x: Tensor, t: Tensor) -> float:
    with FlopCounterMode(display=False) as counter:
        prior.predict(x, t).square().mean().backward()
    return float(counter.get_total_flops())


def plain_step(
    settings: PriorSettings, wanted: float, x: Tensor, t: Tensor
) -> tuple[Callable[[], float], str]:
    """A step of a full-resolution U-Net in float32 that takes about as many operations."""
    found, said = None, ""
    for width in range(64, 0, -32):
        recipe = dataclasses.replace(
            Recipe(), patch=1, norm_groups=32, channels=(width, width, 2 * width, 2 * width)
        )
        for blocks in (2, 1):
            recipe = dataclasses.replace(recipe, blocks=blocks)
            prior = build_prior(recipe, dataclasses.replace(settings, patch=1)).to(x.device)
            count = operations(prior, x[:1], t[:1]) * len(x)
            if found is None or abs(count - wanted) < abs(found[1] - wanted):
                found, said = (
                    (prior, count),
                    f"{width} wide, {blocks} blocks, {count / wanted:.2f} x the operations",
                )
    assert found is not None
    prior = found[0].train()
    average = copy.deepcopy(prior)
    optimizer = torch.optim.Adam(prior.parameters(), lr=1e-4, foreach=False)

    def run() -> float:
        start = now()
        optimizer.zero_grad()
        (prior.unet(x, t).sample - x).square().mean().backward()
        optimizer.step()
        with torch.no_grad():
            for ours, new in zip(average.parameters(), prior.parameters(), strict=True):
                ours.mul_(0.9999).add_(new, alpha=1e-4)
        return now() - start

    return run, said


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--modalities", type=int, default=5)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--batch", type=int, default=16)
    options = arguments.parse_args()
    names = tuple(f"M{k}" for k in range(options.modalities))
    settings = PriorSettings(StackFormat.of_names(names, (SIZE, SIZE)))
    device = choose_device()
    recipe, dtype = Recipe(batch_size=options.batch), choose_dtype("auto", device.type)
    prior = build_prior(recipe, settings).eval().to(device)
    prior.unet.to(memory_format=torch.channels_last)
    x = torch.rand(recipe.batch_size, len(names), SIZE, SIZE, device=device)
    t = torch.full((len(x),), 500, device=device)
    wanted = operations(prior, x[:1], t[:1]) * len(x)
    bare = limit(copy.deepcopy(prior).to(dtype), x, t)
    plain, said = plain_step(settings, wanted, x, t)
    seconds: dict[str, list[float]] = {"limit": [], "whole step": [], "in float32": [], "plain": []}
    with tempfile.TemporaryDirectory() as folder:
        examples = cohort(Path(folder) / "c", names)
        for k in range(options.rounds + 1):
            found = {
                "limit": bare(),
                "whole step": whole_step(examples, settings, recipe, "auto"),
                "in float32": whole_step(examples, settings, recipe, "float32"),
                "plain": plain(),
            }
            if k:  # the first warms up
                for name, value in found.items():
                    seconds[name].append(value)
    base = statistics.median(seconds["limit"])
    where = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    print(f"{where}, {dtype}, batch {len(x)}, {len(names)} x {SIZE} x {SIZE}; plain: {said}")
    print("| what | seconds | of the limit | images/s |\n|---|---|---|---|")
    for name, values in seconds.items():
        middle = statistics.median(values)
        print(f"| {name} | {middle:.3f} | {middle / base:.2f} | {len(x) / middle:.1f} |")


if __name__ == "__main__":
    main()
