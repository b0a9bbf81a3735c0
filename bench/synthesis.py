"""Missing images, compared with a copy of a given image and with a U-Net for that one task.

    python bench/synthesis.py regressors --data COHORT --output runs/regressors [--set NAME=VALUE]
    python bench/synthesis.py table --data COHORT --prior lgg --regressors runs/regressors

COHORT is made by ``any2all prepare``. ``regressors`` trains a network of the prior's own size for
each task (QUESTIONS: the given images). It stops when the PSNR of the missing images on val has not
improved for PATIENCE validations, and keeps the best network. After an interruption, it continues
with the next task.

``table`` prints, for every missing image on the patients of --group: the copy of the given image
that is best on val, the regressor, the prior's one-call mean (``mean``), the mean of eight draws
(``mcs``) and one draw of ``mds``. A prior with one level for all has only the last of the three
samplers. PSNR in dB and SSIM are given plain and at the best scale of each patient's slices, with
the number of patients on whom the copy is better at the best scale.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from any2all_core import DiffusionPrior, load_prior, reconstruct
from any2all_core.loop import Progress, TrainingData, TrainingRun
from any2all_core.options import parse_options
from any2all_core.prior_settings import PriorSettings
from any2all_core.recipe import Recipe
from any2all_core.training import train
from any2all_data.augment import augment
from any2all_data.cohort_entry import Split
from any2all_data.cohort_slices import CohortSlices
from any2all_data.coverage import in_head
from any2all_data.store import CohortStore
from any2all_eval.metrics import scores
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
    """The only task of a regressor: all images that are not given, at T−1."""
    asked = torch.ones_like(absent)
    asked[:, list(given)] = False
    return torch.where(asked, diffusion_steps - 1, 0), asked


def synthesised(
    prior: DiffusionPrior,
    slices: Tensor,
    given: tuple[str, ...],
    sampler: str = "mean",
    *,
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
    """Raised when validation has stopped improving."""


def train_regressor(
    store: CohortStore, recipe: Recipe, given: tuple[str, ...], output: Path, *, check_every: int
) -> None:
    """Train the best network for one task and leave it in ``output``."""
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
        figures = [by_patient([made[:, m]], [val], m)["psnr"] for m in others]
        found.append(float(np.mean(figures)))
        print(f"{'+'.join(given)}, step {progress.step}: {found[-1]:.2f} dB on val", flush=True)
        if found[-1] == max(found):
            progress.prior.save(output.with_suffix(".best"))
        if len(found) - found.index(max(found)) > PATIENCE:
            raise Enough

    train_slices = CohortSlices(store, store.having(names, "train"), names)
    with contextlib.suppress(Enough):
        in_units = [m in store.format.ranges for m in names]
        changed = functools.partial(augment, in_units=in_units)
        train(
            TrainingData(train_slices, val[:: max(1, len(val) // 8)], changed),
            settings,
            recipe,
            TrainingRun(run, validate_every=check_every, checkpoint_every=10**9, report=judge),
            ask=functools.partial(ask, places, diffusion_steps=recipe.diffusion_steps),
        )
    shutil.rmtree(run)
    output.with_suffix(".best").rename(output)


def by_patient(images: list[Tensor], patients: list[Tensor], m: int) -> dict[str, list[float]]:
    """{metric: the mean over the slices of each patient} of images of modality m."""
    found: dict[str, list[float]] = {}
    for image, stack in zip(images, patients, strict=True):
        for metric, values in scores(image, stack[:, m], in_head(stack)).items():
            found.setdefault(metric, []).append(float(np.mean(values)))
    return found


def line(own: Mapping[str, list[float]], copy: Mapping[str, list[float]]) -> str:
    """PSNR / SSIM plain and at the best scale, and the patients on whom the copy is better."""
    mean = {metric: float(np.mean(values)) for metric, values in own.items()}
    pairs = zip(own["psnr_scaled"], copy["psnr_scaled"], strict=True)
    return (
        f"{mean['psnr']:.2f} / {mean['ssim']:.3f} | {mean['psnr_scaled']:.2f} / "
        f"{mean['ssim_scaled']:.3f} | {sum(a < b for a, b in pairs)} of {len(own['psnr'])}"
    )


def table(
    store: CohortStore, prior: DiffusionPrior, regressors: Path, *, group: Split, every: int
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
            label: [
                synthesised(prior, x, given, sampler, draws=draws, seed=seed)
                for seed, x in enumerate(patients)
            ]
            for label, (sampler, draws) in ways.items()
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
            found = {label: by_patient(own, patients, m) for label, own in images.items()}
            for label, own in found.items():
                figures = line(own, found["copy"])
                print(f"| {' + '.join(given)} | {name} | {label} | {figures} |")


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
        table(
            store,
            load_prior(options.prior),
            options.regressors,
            group=options.group,
            every=options.every,
        )
        return
    changes = parse_options(Recipe, dict(s.split("=", 1) for s in options.set), "recipe")
    for given in QUESTIONS:
        output = options.output / "+".join(given)
        if not output.exists():
            train_regressor(
                store,
                dataclasses.replace(Recipe(), **changes),
                given,
                output,
                check_every=options.check_every,
            )


if __name__ == "__main__":
    main()
