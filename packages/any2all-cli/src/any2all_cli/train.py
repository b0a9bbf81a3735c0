"""``any2all train``."""

from __future__ import annotations

import dataclasses
import functools
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from any2all_core.checkpoint import BEST, begun, prepare_output
from any2all_core.examples import Examples, InMemory
from any2all_core.objective import validation_slices
from any2all_core.options import parse_options
from any2all_core.prior import DiffusionPrior, PriorSettings, write_settings
from any2all_core.recipe import Recipe, read_recipe
from any2all_core.reconstruct import load_prior, make_sampler, reconstruct
from any2all_core.training import Progress, Stopped, train
from any2all_core.weights import engine
from any2all_data.augment import augment
from any2all_data.cohort import find_modalities, find_patients, read_slices
from any2all_data.normalise import MR_NORMALISATION, fixed_range
from any2all_data.store import CohortSlices, CohortStore, Entry, is_cohort
from any2all_operators import BlockDiagonal, UserError
from PIL.Image import Image
from rich.console import Console
from torch import Tensor

from any2all_cli.copies import Nearness, beside_copies, copy_is_nearer
from any2all_cli.error_floor import fit_error_floor
from any2all_cli.output import progress_bar
from any2all_cli.parsing import name_values
from any2all_cli.preview import contact_sheet

DRAWS, DRAW_STEPS = 8, 25


def run(
    data: str,
    output: Path,
    validation: Path | None,
    modalities: str | None,
    recipe_name: str | None,
    settings: list[str],
    start_from: str | None,
    resume: bool,
    precision: str,
    incomplete: bool,
    tensorboard: bool,
    shard: bool,
) -> None:
    """Read both groups of patients, train, and leave a prior folder.

    data: a cohort of ``any2all prepare``, or a folder of patient folders. recipe_name: small if
    not given, or that of the run that is resumed.
    """
    if resume and recipe_name is None:
        recipe, source = begun(output)["recipe"], f"recipe of {output}"
    else:
        recipe, source = read_recipe(recipe_name or "small"), f"recipe {recipe_name or 'small'}"
    changes = parse_options(Recipe, name_values(settings, "--set"), source)
    recipe = dataclasses.replace(recipe, **changes)
    start = load_prior(start_from, "float32", "cpu") if start_from else None
    first = engine().is_main_process
    if first:
        prepare_output(output, resume)
    wanted = tuple(modalities.split(",")) if modalities else None
    if wanted and len(set(wanted)) < len(wanted):
        raise UserError(f"--modalities {modalities}: one is given twice")
    console = Console(stderr=True, quiet=not first)
    if is_cohort(data):
        native = recipe.levels == "separate"
        found = _of_cohort(data, validation, wanted, incomplete, native, console)
    else:
        found = _of_folders(data, validation, wanted, incomplete, console)
    examples, check, prior = found
    check = validation_slices(check)
    console.print(
        f"trained on {len(examples)} slices, validated on {len(check)} of other patients; "
        f"{', '.join(prior.modalities)} at {check.shape[2]} x {check.shape[3]}"
    )
    in_units = [fixed_range(prior.normalisation[m]) is not None for m in prior.modalities]
    write = _tensorboard(output) if tensorboard and first else None
    with progress_bar(console) as bar:
        task = bar.add_task("training", total=recipe.steps)

        def report(progress: Progress) -> None:
            bar.update(
                task,
                completed=progress.step,
                description=f"loss {progress.loss:.4f} · {progress.images_per_second:.1f} images/s",
            )
            if write:
                write(progress.step, {"loss": progress.loss}, None)
            if progress.validation is not None and progress.prior is not None:
                figures = "  ".join(f"{k} {v:.4g}" for k, v in progress.validation.items())
                console.print(f"step {progress.step}: {figures}")
                sheet = _draw(progress.prior, output, progress.step)
                if write:
                    write(progress.step, progress.validation, sheet)

        try:
            train(
                examples,
                check,
                prior,
                recipe,
                output,
                augment=functools.partial(augment, in_units=in_units),
                start_from=start,
                resume=resume,
                shard=shard,
                precision=precision,
                report=report,
            )
        except Stopped as stopped:
            why = "Ctrl-C" if stopped.signal == signal.SIGINT else stopped.signal.name
            console.print(f"{why}: saved at step {stopped.step}; go on with --resume")
            raise SystemExit(128 + stopped.signal) from None
    if first:
        with console.status("held-out slices: the prior's own error, and copies beside its draws"):
            missing = _judge(output, check)
        for name in prior.modalities:
            given = [m for m in prior.modalities if m != name]
            if said := copy_is_nearer(missing, name, given):
                console.print(f"{name}: {said}", highlight=False, soft_wrap=True)
    console.print(f"prior written to {output}, its best to {output / BEST}")


def _judge(output: Path, check: Tensor) -> dict[str, dict[str, Nearness]]:
    """Keep in the prior, and its best, what held-out slices (N, M, H, W) say of it.

    That is its error floor, and how near its draws, and copies, come to what is missing.
    """
    last = DiffusionPrior.load(output)
    settings = judged = _judged(last, check)
    write_settings(judged, output)
    best = DiffusionPrior.load(output / BEST)
    if best.settings.training["steps"] != last.settings.training["steps"]:
        settings = _judged(best, check)
    write_settings(settings, output / BEST)
    return judged.training["missing"]


def _judged(prior: DiffusionPrior, check: Tensor) -> PriorSettings:
    floor = fit_error_floor(prior, check)
    prior.settings = dataclasses.replace(prior.settings, error_floor=floor)
    found = beside_copies(prior, check) if len(prior.modalities) > 1 else {}
    training = {**prior.settings.training, "missing": found}
    return dataclasses.replace(prior.settings, training=training)


def _draw(prior: DiffusionPrior, output: Path, step: int) -> Image:
    """A contact sheet of what the prior draws by now, in few steps; it is also written."""
    sampler = make_sampler("ddpm", {"steps": str(DRAW_STEPS)})
    shape = (1, *prior.settings.image_size)
    with torch.random.fork_rng():
        stacks = reconstruct(prior, BlockDiagonal({}), {}, sampler, shape=shape, draws=DRAWS)
    (output / "draws").mkdir(exist_ok=True)
    sheet = contact_sheet(stacks[:, 0], prior.modalities)
    sheet.save(output / "draws" / f"{step:07d}.png")
    return sheet


def _tensorboard(output: Path) -> Callable[[int, dict[str, float], Image | None], None]:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise UserError(
            "--tensorboard needs it; run pip install 'any2all-cli[tensorboard]'"
        ) from None
    writers: list[SummaryWriter] = []  # opened when training has begun

    def write(step: int, figures: dict[str, float], draws: Image | None) -> None:
        writers[:] = writers or [SummaryWriter(output / "tensorboard")]
        for name, value in figures.items():
            writers[0].add_scalar(name, value, step)
        if draws is not None:
            writers[0].add_image("draws", np.asarray(draws), step, dataformats="HW")
        writers[0].flush()

    return write


def _of_folders(
    data: str,
    validation: Path | None,
    wanted: tuple[str, ...] | None,
    incomplete: bool,
    console: Console,
) -> tuple[Examples, Tensor, PriorSettings]:
    """Slices to train on, others to validate on, and what the prior has to say of them."""
    if incomplete:
        raise UserError(f"--incomplete: {data} is no cohort; make one with any2all prepare")
    patients = find_patients(Path(data))
    if validation is not None:
        held_out = find_patients(validation)
    else:
        count = max(1, len(patients) // 10)
        if len(patients) < 2:
            raise UserError(f"{data}: one patient; give more, or --validation FOLDER")
        patients, held_out = patients[:-count], patients[-count:]
    names = wanted or find_modalities(patients)
    with progress_bar(console) as bar:
        reading = bar.add_task("reading", total=len(patients) + len(held_out))
        slices = read_slices(patients, names, lambda: bar.advance(reading))
        check = read_slices(held_out, names, lambda: bar.advance(reading))
    kept = {name: MR_NORMALISATION for name in names}
    return InMemory(slices), check, PriorSettings(names, _size(slices), normalisation=kept)


def _of_cohort(
    data: str,
    validation: Path | None,
    wanted: tuple[str, ...] | None,
    incomplete: bool,
    native: bool,
    console: Console,
) -> tuple[Examples, Tensor, PriorSettings]:
    """Likewise, the patients' splits and normalisation being those of the cohort.

    native: whether gaps are trained on as they are, and not as a prior has filled them.
    """
    if validation is not None:
        raise UserError(f"--validation: {data} is a cohort, which says itself who is val")
    store = CohortStore.open(data)
    names = wanted or store.settings.modalities
    if not set(names) <= set(store.settings.modalities):
        raise UserError(
            f"--modalities {','.join(names)}: the cohort has {', '.join(store.settings.modalities)}"
        )
    lacking = {p: e for p, (e, _) in store.with_gaps(names).items()} if incomplete else {}
    filled = {} if native or not incomplete else _filled(store, names)
    patients, held_out = store.having(names, "train"), store.having(names, "val")
    if not held_out:
        count = max(1, len(patients) // 10)
        held_out = dict(list(patients.items())[-count:])
        patients = {p: e for p, e in patients.items() if p not in held_out}
        console.print(f"no val patient in the cohort: {count} of train held out to validate")
    patients |= lacking
    if not patients:
        raise UserError(
            f"{data}: too few patients of train that have {', '.join(names)}; see any2all cohort "
            f"{data}, or take fewer --modalities"
        )
    with progress_bar(console) as bar:
        reading = bar.add_task("reading", total=len(patients) + len(held_out))
        examples = CohortSlices(store, patients, names, lambda: bar.advance(reading), not native)
        check = store.slices(held_out, names, lambda: bar.advance(reading))
    everything = store.normalisation()
    kept = {name: everything[name] for name in names}
    corrected = [entry.preparation.get("bias_correct", False) for entry in patients.values()]
    grid = {
        "spacing": store.settings.spacing,
        "reference": store.settings.reference,
        "bias_correct": any(corrected),
    }
    made_of: dict[str, Any] = {"grid": grid}
    if store.settings.virtual:
        made_of["virtual"] = True
    if native and lacking:
        console.print(
            f"{len(lacking)} patients of train lack some of {', '.join(names)}: what is absent "
            "bears no loss"
        )
        made_of["incomplete"] = len(lacking)
    if filled:
        console.print(f"{len(filled)} patients of train with images drawn by a prior: synthetic")
        by = [entry.drawn_by for entry in filled.values()]
        made_of["drawn"] = {
            "patients": len(filled),
            "by": [entry for k, entry in enumerate(by) if entry not in by[:k]],
        }
    settings = PriorSettings(names, _size(check), normalisation=kept, training=made_of)
    return examples, check, settings


def _filled(store: CohortStore, names: Sequence[str]) -> dict[str, Entry]:
    """The patients of train whose gaps are filled, which all of them have to be."""
    lacking = store.with_gaps(names)
    filled = {p: e for p, (e, missing) in lacking.items() if set(missing) <= set(e.drawn)}
    if len(filled) < len(lacking):
        raise UserError(
            f"--incomplete: {len(lacking) - len(filled)} of the {len(lacking)} patients of train "
            f"who lack some of {', '.join(names)} have no draws of it, which a recipe with "
            f"levels=shared needs; run any2all fill {store.url} --prior PRIOR, of these "
            "modalities, or take levels=separate"
        )
    return filled


def _size(slices: Tensor) -> tuple[int, int]:
    return slices.shape[2], slices.shape[3]
