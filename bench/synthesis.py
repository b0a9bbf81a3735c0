"""Missing images beside what is simple: a copy of a given one, and a U-Net for that one question.

    python bench/synthesis.py regressors --data COHORT --output runs/regressors [--set NAME=VALUE]
    python bench/synthesis.py table --data COHORT --prior lgg --regressors runs/regressors

COHORT comes from ``any2all prepare``. ``regressors`` trains a network of the prior's own size for
each question (QUESTIONS: what is given) until the PSNR of what it is asked for has not gained on
val for PATIENCE validations, and keeps the best; interrupted, it goes on with the next question.
``table`` prints, for every missing image on the patients of --group: the copy of the given image
that is best on val, the regressor, the prior's one-call mean (``mean``), the mean of eight draws
(``mcs``) and one draw of ``mds``, which alone is there for a prior with one level for all. PSNR in
dB and SSIM, plain and after the best scale of each patient's slices, and on how many patients the
copy is better at the best scale.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from any2all_core import DiffusionPrior, load_prior, reconstruct
from any2all_core.loop import Progress
from any2all_core.options import parse_options
from any2all_core.prior_settings import PriorSettings
from any2all_core.recipe import Recipe
from any2all_core.training import train
from any2all_data.augment import augment
from any2all_data.cohort_entry import Split
from any2all_data.cohort_slices import CohortSlices
from any2all_data.metrics import at_best_scale, psnr, ssim
from any2all_data.store import CohortStore
from any2all_eval.references import best_copy
from any2all_operators import BlockDiagonal, Identity
from torch import Tensor

QUESTIONS = (("T1",), ("T1", "T1Gd"), ("FLAIR",))
PATIENCE = 4
BATCH = 16
WAYS = {"mean": ("mean", 1), "mcs, mean of 8": ("mcs", 8), "mds, one draw": ("mds", 1)}


def ask(
    given: tuple[int, ...],
    generators: Sequence[torch.Generator],
    absent: Tensor,
    diffusion_steps: int,
) -> tuple[Tensor, Tensor]:
    """The only question of a regressor: everything that is not given, at T−1."""
    asked = torch.ones_like(absent)
    asked[:, list(given)] = False
    return torch.where(asked, diffusion_steps - 1, 0), asked


def synthesised(
    prior: DiffusionPrior,
    slices: Tensor,
    given: tuple[str, ...],
    sampler: str = "mean",
    draws: int = 1,
    seed: int = 0,
) -> Tensor:
    """The mean of a sampler's draws from clean images, (N, M, H, W) in [0, 1]."""
    data = {m: slices[:, prior.modalities.index(m)] for m in given}
    operator = BlockDiagonal({m: Identity() for m in given})
    return reconstruct(
        prior, operator, data, sampler, draws=draws, seed=seed, batch_size=BATCH
    ).mean(0)


class Enough(Exception):
    """Validation has stopped gaining."""


def train_regressor(
    store: CohortStore, recipe: Recipe, given: tuple[str, ...], output: Path, check_every: int
) -> None:
    """Leave the best network for one question in ``output``."""
    names = store.format.names
    places = tuple(names.index(name) for name in given)
    others = [m for m in range(len(names)) if m not in places]
    val = torch.cat([store.slices({p: e}, names) for p, e in store.having(names, "val").items()])
    settings = PriorSettings(store.format)
    run = output.with_suffix(".run")
    shutil.rmtree(run, ignore_errors=True)
    found: list[float] = []

    def judge(progress: Progress) -> None:
        if progress.prior is None:
            return
        made = synthesised(progress.prior, val, given)
        found.append(
            float(torch.stack([psnr(made[:, m], val[:, m]).mean() for m in others]).mean())
        )
        print(f"{'+'.join(given)}, step {progress.step}: {found[-1]:.2f} dB on val", flush=True)
        if found[-1] == max(found):
            progress.prior.save(output.with_suffix(".best"))
        if len(found) - found.index(max(found)) > PATIENCE:
            raise Enough

    train_slices = CohortSlices(store, store.having(names, "train"), names)
    with contextlib.suppress(Enough):
        train(
            train_slices, val[:: max(1, len(val) // 8)], settings, recipe, run,
            augment=functools.partial(augment, in_units=[m in store.format.ranges for m in names]),
            ask=functools.partial(ask, places, diffusion_steps=recipe.diffusion_steps),
            validate_every=check_every, checkpoint_every=10**9, report=judge,
        )  # fmt: skip
    shutil.rmtree(run)
    output.with_suffix(".best").rename(output)


def line(images: Mapping[str, list[Tensor]], truths: list[Tensor], label: str) -> str:
    """PSNR / SSIM plain, at the best scale, and the patients on whom the copy is better."""
    plain, scaled, below = [], [], 0
    for x, u, c in zip(images[label], truths, images["copy"], strict=True):
        best = at_best_scale(x, u)
        plain.append(torch.stack([psnr(x, u).mean(), ssim(x, u).mean()]))
        scaled.append(torch.stack([psnr(best, u).mean(), ssim(best, u).mean()]))
        below += bool(scaled[-1][0] < psnr(at_best_scale(c, u), u).mean())
    one, other = (torch.stack(figures).mean(0).tolist() for figures in (plain, scaled))
    return (
        f"{one[0]:.2f} / {one[1]:.3f} | {other[0]:.2f} / {other[1]:.3f} | {below} of {len(truths)}"
    )


def table(
    store: CohortStore, prior: DiffusionPrior, regressors: Path, group: Split, every: int
) -> None:
    names = prior.modalities
    of = {
        split: [store.slices({p: e}, names)[::every] for p, e in store.having(names, split).items()]
        for split in ("val", group)
    }
    patients = of[group]
    ways = WAYS if prior.levels == "separate" else {"mds, one draw": ("mds", 1)}
    print("| given | image | method | PSNR / SSIM | at the best scale | copy is better on |")
    print("|---" * 6 + "|")
    for given in QUESTIONS:
        places = tuple(names.index(name) for name in given)
        made = {
            label: [synthesised(prior, x, given, *way, seed) for seed, x in enumerate(patients)]
            for label, way in ways.items()
        }
        folder = regressors / "+".join(given)
        if folder.is_dir():
            network = load_prior(folder)
            made["U-Net for this question"] = [synthesised(network, x, given) for x in patients]
        for m, name in enumerate(names):
            if name in given:
                continue
            source = best_copy(of["val"], places, m)
            images = {"copy": [x[:, source] for x in patients]}
            images |= {label: [x[:, m] for x in stacks] for label, stacks in made.items()}
            truths = [x[:, m] for x in patients]
            for label in images:
                print(f"| {' + '.join(given)} | {name} | {label} | {line(images, truths, label)} |")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("what", choices=("regressors", "table"))
    arguments.add_argument("--data", required=True, help="a cohort")
    arguments.add_argument("--prior", default="lgg")
    arguments.add_argument("--output", type=Path, help="of regressors")
    arguments.add_argument("--regressors", type=Path, default=Path("none"))
    arguments.add_argument("--group", default="test")
    arguments.add_argument("--every", type=int, default=4, help="slices of a patient")
    arguments.add_argument("--check-every", type=int, default=250, help="steps")
    arguments.add_argument("--set", action="append", default=[], help="of the recipe: NAME=VALUE")
    options = arguments.parse_args()
    store = CohortStore.open(options.data)
    if options.what == "table":
        table(store, load_prior(options.prior), options.regressors, options.group, options.every)
        return
    changes = parse_options(Recipe, dict(s.split("=", 1) for s in options.set), "recipe")
    for given in QUESTIONS:
        output = options.output / "+".join(given)
        if not output.exists():
            train_regressor(
                store, dataclasses.replace(Recipe(), **changes), given, output, options.check_every
            )


if __name__ == "__main__":
    main()
