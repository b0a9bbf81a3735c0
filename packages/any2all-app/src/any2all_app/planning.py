"""Plan a recipe for a cohort and this machine, and time it.

As in nnU-Net, a fingerprint of the cohort determines an editable plan for the training.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from any2all_core.examples import InMemory
from any2all_core.hardware import Machine, choose_dtype
from any2all_core.loop import TrainingData, TrainingRun
from any2all_core.objective import VALIDATION_SLICES
from any2all_core.prior import DiffusionPrior
from any2all_core.recipe import Recipe
from any2all_core.training import train as train_on
from any2all_core.weights import engine
from any2all_data.cohort_entry import Entry
from any2all_data.grid import common_spacing, slices_of
from any2all_data.patient import modality_path
from any2all_data.store import CohortStore
from any2all_operators import UserError

from any2all_app.observer import SILENT, Observer
from any2all_app.recipe_plan import Fingerprint, Plan, plan_recipe
from any2all_app.training_slices import patients_with, split_folders, too_few
from any2all_app.training_time import TIMING, StepTime, step_time

if TYPE_CHECKING:
    from any2all_app.training import Training

JUDGED = 4
"""Number of slices of the validation that is timed."""


def plan(training: Training, observer: Observer = SILENT) -> Plan:
    """Plan the training of a prior on a cohort, on this machine, and time a few of its steps.

    Parameters
    ----------
    training
        The training data; ``hours`` sets the number of steps. Its recipe options are ignored.
    observer
        Receives the progress of the timing, and a warning if memory is short.

    Returns
    -------
    Plan
        The recipe, its cohort and machine, and the memory and the time that it needs.
        :func:`any2all_app.plan_file.as_toml` converts it to a file.

    Raises
    ------
    UserError
        If the data can't be used.
    """
    made = planned(training, observer)
    observer.progress(TIMING, 0, 1)
    found = time_of(made.recipe, made.fingerprint, training.precision)
    observer.progress(TIMING, 1, 1)
    made = replace(made, time=found)
    if training.hours is None:
        return made
    return replace(
        made, recipe=replace(made.recipe, steps=found.steps_in(training.hours, made.recipe))
    )


def planned(training: Training, observer: Observer, network: Recipe | None = None) -> Plan:
    """Return the plan without its time. ``network`` is a recipe whose network is kept."""
    made = plan_recipe(fingerprint_of(training), machine(training.precision), network)
    if not made.fits:
        observer.say(
            f"training needs about {made.memory / 1e9:.1f} GB of memory, but there are only "
            f"{made.available / 1e9:.1f} GB: prepare smaller slices, or use fewer channels"
        )
    return made


def recipe_for(training: Training, start: DiffusionPrior | None, observer: Observer) -> Recipe:
    """Return the planned recipe for training without a given one.

    All processes use the recipe of the first, because their free memory may differ.
    """
    from accelerate.utils import broadcast_object_list

    recipes: list[Recipe | None] = [None]
    if engine().is_main_process:
        made = planned(training, observer, network_of(start))
        recipe = made.recipe
        observer.say(
            f"recipe planned for {made.fingerprint.slices:,} slices of "
            f"{' x '.join(map(str, made.fingerprint.size))} on {made.machine}: "
            f"channels {'+'.join(map(str, recipe.channels))}, "
            f"{recipe.batch_size * recipe.accumulate} slices per step, {recipe.steps} steps; "
            f"any2all plan {training.data} writes it as a file for --recipe"
        )
        recipes = [recipe]
    broadcast_object_list(recipes)
    assert recipes[0] is not None
    return recipes[0]


def network_of(start: DiffusionPrior | None) -> Recipe | None:
    """Return a recipe with the network of the prior to start from, if its recipe is known."""
    was = start and start.settings.training.get("recipe")
    if not was:
        return None
    names = ("channels", "blocks", "attention_levels", "norm_groups", "patch", "prediction")
    kept = {name: was[name] for name in (*names, "diffusion_steps")}
    if kept["prediction"] == "epsilon":
        kept["levels"] = "shared"
    return Recipe(**{**kept, "channels": tuple(kept["channels"])})


def machine(precision: str) -> Machine:
    """Describe this machine, with the precision in which it computes."""
    here = Machine.here()
    if precision == "auto":
        return here
    return replace(here, bfloat16=choose_dtype(precision) == torch.bfloat16)


def time_of(recipe: Recipe, fingerprint: Fingerprint, precision: str = "auto") -> StepTime:
    """Time a step and a validation by training a few steps on images of noise."""
    count, random = recipe.batch_size * recipe.accumulate, torch.Generator().manual_seed(0)
    shape = (max(count, JUDGED), len(fingerprint.modalities), *fingerprint.size)
    images = torch.rand(shape, generator=random)
    settings = fingerprint.settings(recipe)

    data = TrainingData(InMemory(images), images[:JUDGED])

    def train_by(trial: Recipe, run: TrainingRun) -> None:
        train_on(data, settings, trial, run)

    found = step_time(recipe, TrainingRun(Path(), precision=precision), train_by)
    return replace(found, validation=found.validation * VALIDATION_SLICES / JUDGED)


def fingerprint_of(training: Training) -> Fingerprint:
    """Return the facts of a cohort or a folder of patients, without reading its images."""
    found = training.patients
    if found.place == "cohort" and found.cohort is not None:
        return _of_cohort(found.cohort, training.modalities, training.incomplete)
    patients, held_out, names = split_folders(found, training.validation, training.modalities)
    paths = [modality_path(patient, names[0]) for patient in patients]
    grids = [slices_of(path) if path is not None else None for path in paths]
    if None in grids:
        path = paths[grids.index(None)] or patients[grids.index(None)]
        raise UserError(f"{path}: not readable as a NIfTI file of one volume; export it again")
    (_, *size), *_ = known = [grid for grid in grids if grid is not None]
    slices = sum(count for count, _, _ in known)
    height, width = size
    return Fingerprint(
        names, (height, width), len(patients), len(held_out), slices, common_spacing(paths)
    )


def _of_cohort(store: CohortStore, wanted: tuple[str, ...] | None, incomplete: bool) -> Fingerprint:
    names, patients, held_out = patients_with(store, wanted)
    if incomplete:
        patients |= {p: entry for p, (entry, _) in store.with_gaps(names).items()}
    if not patients:
        raise too_few(store, names)
    slices = sum(int(store.array(patient).shape[0]) for patient in patients)
    grid = store.format.grid
    spacing = grid.spacing if grid is not None and grid.spacing else _median(patients)
    size = store.format.size
    return Fingerprint(names, size, len(patients), len(held_out), slices, spacing)


def _median(patients: Mapping[str, Entry]) -> tuple[float, float, float]:
    """Return the median voxel size (x, y, z) in mm."""
    affines = [np.array(entry.affine)[:3, :3] for entry in patients.values()]
    sides: Sequence[Sequence[float]] = [np.linalg.norm(a, axis=0).tolist() for a in affines]
    x, y, z = (statistics.median(side) for side in zip(*sides, strict=True))
    return x, y, z
