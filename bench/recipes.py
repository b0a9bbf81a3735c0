"""The quality that a training recipe reaches in a given time, on small images.

    any2all prepare LGG lgg48 --no-register --split split.json --size 48 --spacing 5,5,5
    python bench/recipes.py NAME --data lgg48 --output runs/trials [--minutes 15] [--set KEY=VALUE]

The script trains for as many steps as fit into the minutes on one thread. It then judges the
averaged weights on the patients of val, by joint denoising (PSNR of x̂_0 at four times), FLAIR and
T1Gd from T1, and FLAIR from its k-space (R = 4) and T1. PSNR is in dB, plain / at the best scale of
each patient's slices. --regressor trains a U-Net of the same size for FLAIR and T1Gd from T1 alone,
as the reference for one-call means. The results of all trials are in OUTPUT/trials.md.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import shutil
import time
from pathlib import Path

import numpy as np
import torch
from any2all_core import DiffusionPrior, load_prior, make_sampler, reconstruct, simulate
from any2all_core.loop import TrainingData, TrainingRun
from any2all_core.objective import validate, validation_slices
from any2all_core.options import parse_options
from any2all_core.prior_settings import PriorSettings
from any2all_core.recipe import Recipe
from any2all_core.training import train
from any2all_data.augment import augment
from any2all_data.cohort_slices import CohortSlices
from any2all_data.coverage import in_head
from any2all_data.store import CohortStore
from any2all_eval.metrics import scores
from any2all_eval.uncertainty import uncertainty
from any2all_mri import KSpace
from any2all_operators import BlockDiagonal, Identity
from synthesis import ask as only
from torch import Tensor

EVERY = 6
"""Slices of a patient of val that are judged: every sixth."""
SMALL = Recipe(channels=(32, 64, 96))
TRIED, MEASURED = 3, 12
"""Steps before and while a step's seconds are measured."""
DRAWS = 8
GIVEN = 0
"""T1, of T1, FLAIR, T1Gd."""


def told(made: list[Tensor], patients: list[Tensor], m: int) -> str:
    """Means over patients of the PSNR of the mean of draws, and of their spread over its error.

    made: (draws, Z, H, W) of image m of each patient (Z, M, H, W).
    """
    found: dict[str, list[float]] = {}
    for draws, stack in zip(made, patients, strict=True):
        truth, head, mean = stack[:, m], in_head(stack), draws.mean(0)
        values = scores(mean, truth, head)
        if len(draws) > 1:
            values |= uncertainty(mean, draws.std(0), truth, head, draws=len(draws))
        for metric, of_slices in values.items():
            found.setdefault(metric, []).append(float(np.mean(of_slices)))
    means = {metric: float(np.mean(values)) for metric, values in found.items()}
    text = f"{means['psnr']:.2f} / {means['psnr_scaled']:.2f}"
    return text + (f" (spread/error {means['spread']:.2f})" if "spread" in means else "")


def judge(prior: DiffusionPrior, patients: list[Tensor], regressor: bool) -> dict[str, str]:
    """{row: figures} on the patients (Z, M, H, W) of val."""
    rows: dict[str, str] = {}
    names = prior.modalities
    separate = prior.levels == "separate"
    chosen = [stack[::EVERY] for stack in patients]
    if not regressor:
        figures = validate(prior, validation_slices(torch.cat(patients)))
        rows["t = 150 / 300 / 500 / 700"] = " / ".join(
            f"{figures[f'psnr_t{t}']:.2f}" for t in (150, 300, 500, 700)
        )
    given = {names[GIVEN]: Identity()}
    ways = {"mean": ("mean", 1)} if separate else {}
    if not regressor:
        ways |= {"mds": ("mds", 1), f"mds, mean of {DRAWS}": ("mds", DRAWS)}
        if separate:
            ways |= {"mcs": ("mcs", 1), f"mcs, mean of {DRAWS}": ("mcs", DRAWS)}
    for label, (sampler, draws) in ways.items():
        made = [
            reconstruct(
                prior, BlockDiagonal(given), {names[GIVEN]: x[:, GIVEN]}, make_sampler(sampler),
                draws=draws, seed=k, batch_size=16,
            )
            for k, x in enumerate(chosen)
        ]  # fmt: skip
        for m, name in enumerate(names):
            if m == GIVEN:
                continue
            row = told([d[:, :, m] for d in made], chosen, m)
            rows[f"{name} from {names[GIVEN]}, {label}"] = row
    if regressor:
        return rows
    height, width = chosen[0].shape[2:]
    scan = KSpace(acceleration=4, coils=8, acs_lines=8, noise_std=0.01).build(height, width)
    operator = BlockDiagonal({names[GIVEN]: Identity(), "FLAIR": scan})
    m = names.index("FLAIR")
    samplers = ("mds", "mcs") if separate else ("mds",)
    for sampler in samplers:
        made = []
        for k, x in enumerate(chosen):
            data = simulate(operator, x[:, [GIVEN, m]], seed=k)
            made.append(
                reconstruct(prior, operator, data, make_sampler(sampler), draws=4, seed=k,
                            batch_size=16)
            )  # fmt: skip
        row = f"FLAIR from k-space, T1, {sampler}"
        rows[row] = told([d[:1, :, m] for d in made], chosen, m)
        rows[f"{row}, mean of 4"] = told([d[:, :, m] for d in made], chosen, m)
    return rows


def references(patients: list[Tensor], names: tuple[str, ...]) -> dict[str, str]:
    """A copy of T1, taken as the missing image."""
    chosen = [stack[::EVERY] for stack in patients]
    return {
        f"{name} from {names[GIVEN]}, copy": told([x[None, :, GIVEN] for x in chosen], chosen, m)
        for m, name in enumerate(names)
        if m != GIVEN
    }


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("name", help="of the trial")
    arguments.add_argument("--data", required=True, help="a cohort of small slices")
    arguments.add_argument("--output", type=Path, required=True)
    arguments.add_argument("--minutes", type=float, default=15.0)
    arguments.add_argument("--set", action="append", default=[], help="of the recipe: NAME=VALUE")
    arguments.add_argument("--start-from", help="a prior")
    arguments.add_argument("--regressor", action="store_true")
    options = arguments.parse_args()
    torch.set_num_threads(1)
    store = CohortStore.open(options.data)
    names = store.format.names
    examples = CohortSlices(store, store.having(names, "train"), names)
    val = [store.slices({p: e}, names) for p, e in store.having(names, "val").items()]
    changes = parse_options(Recipe, dict(s.split("=", 1) for s in options.set), "recipe")
    recipe = dataclasses.replace(SMALL, **changes)
    settings = PriorSettings(store.format)
    start = load_prior(options.start_from, "float32") if options.start_from else None
    ask = None
    if options.regressor:
        ask = functools.partial(only, (GIVEN,), diffusion_steps=recipe.diffusion_steps)
    run = options.output / options.name
    shutil.rmtree(run, ignore_errors=True)
    clock: list[float] = []

    def learn(steps: int) -> None:
        data = TrainingData(examples, validation_slices(torch.cat(val)), augment)
        here = TrainingRun(
            run,
            validate_every=10**9,
            checkpoint_every=10**9,
            report=lambda _: clock.append(time.perf_counter()),
        )
        timed = dataclasses.replace(recipe, steps=steps)
        train(data, settings, timed, here, ask=ask, start_from=start)

    learn(TRIED + MEASURED)
    seconds = (clock[-2] - clock[TRIED - 1]) / (MEASURED - 1)
    shutil.rmtree(run)
    steps = int(options.minutes * 60 / seconds)
    learn(steps)
    prior = load_prior(run, "float32")
    weights = sum(p.numel() for p in prior.parameters()) / 1e6
    rows = {"weights": f"{weights:.1f} M", "steps": f"{steps} of {recipe.batch_size}"}
    rows |= {"seconds a step": f"{seconds:.3f}"}
    rows |= references(val, names) | judge(prior, val, options.regressor)
    (run / "figures.json").write_text(json.dumps(rows, indent=2) + "\n")
    found = sorted(options.output.glob("*/figures.json"))
    trials = {path.parent.name: json.loads(path.read_text()) for path in found}
    lines = list(dict.fromkeys(row for trial in trials.values() for row in trial))
    table = ["| | " + " | ".join(trials) + " |", "|---" * (len(trials) + 1) + "|"]
    table += [
        f"| {row} | " + " | ".join(trial.get(row, "–") for trial in trials.values()) + " |"
        for row in lines
    ]
    (options.output / "trials.md").write_text("\n".join(table) + "\n")
    print("\n".join(f"{row}: {figure}" for row, figure in rows.items()))


if __name__ == "__main__":
    main()
