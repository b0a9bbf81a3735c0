"""Train a prior on patients by a recipe, and write it into a folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from any2all_core.checkpoint import begun, prepare_output
from any2all_core.loop import Progress, TrainingRun
from any2all_core.named_priors import load_prior
from any2all_core.options import parse_options
from any2all_core.prior import DiffusionPrior
from any2all_core.prior_settings import read_settings
from any2all_core.recipe import Recipe, read_recipe
from any2all_core.reconstruct import make_sampler, reconstruct
from any2all_core.training import train as train_on
from any2all_core.weights import engine
from any2all_data.patients import Patients
from any2all_operators import BlockDiagonal, UserError
from PIL.Image import Image

from any2all_app.judging import judge_prior
from any2all_app.observer import SILENT, Observer
from any2all_app.planning import recipe_for
from any2all_app.preview import contact_sheet
from any2all_app.training_slices import TrainingSlices, cohort_slices, folder_slices, tell_step
from any2all_app.training_time import recipe_in_hours

DRAWS, DRAW_STEPS = 8, 25
HOURS = "hours"
"""The entry in a prior's settings for the hours of its training."""
LONGEST = 10_000
"""Upper limit of ``hours``."""
Write = Callable[[int, dict[str, float], Image | None], None]


@dataclass(frozen=True)
class Training:
    """Options for training a prior.

    Parameters
    ----------
    data
        A cohort of ``any2all prepare``, as a path or a URL; a folder of
        <patient>/<modality>.nii.gz; or one with folders train and val of such.
    validation
        A folder of held-out patients; None takes the folder val, or else a tenth of the patients.
        A cohort says who is val.
    modalities
        Names of the modalities in channel order; None takes all that every patient has.
    recipe
        "small", "paper" or a TOML file. None takes the resumed run's recipe, or the one that
        :func:`any2all_app.plan` makes for the data and the machine.
    changes
        {name: value as text} of the recipe.
    start_from
        A prior whose weights training starts from. It shares some of the modalities.
    resume
        Whether to continue the run in the output folder.
    precision
        "auto", "float32" or "bfloat16".
    incomplete
        Whether patients who lack modalities are used.
    tensorboard
        Whether curves and samples are written for TensorBoard, too.
    shard
        Whether the weights are divided among the processes (FSDP).
    hours
        Training time in hours, which sets the number of steps; None leaves it to the recipe.
    """

    data: str
    validation: Path | None = None
    modalities: tuple[str, ...] | None = None
    recipe: str | None = None
    changes: Mapping[str, str] = field(default_factory=dict)
    start_from: str | None = None
    resume: bool = False
    precision: str = "auto"
    incomplete: bool = False
    tensorboard: bool = False
    shard: bool = False
    hours: float | None = None

    def __post_init__(self) -> None:
        if self.hours is not None and not 0 < self.hours < LONGEST:
            raise UserError(f"--hours {self.hours:g}: expected more than 0 and less than {LONGEST}")
        if self.hours is not None and "steps" in self.changes:
            raise UserError("--hours and --steps both set the number of steps: give one of them")
        names = self.modalities
        if names and len(set(names)) < len(names):
            raise UserError(f"--modalities {','.join(names)}: one is given twice")
        if self.patients.place == "cohort":
            if self.validation is not None:
                raise UserError(
                    f"--validation: {self.data} is a cohort, which has its own val group; omit it"
                )
        elif self.incomplete:
            raise UserError(
                f"--incomplete: {self.data} is not a cohort; make one with any2all prepare"
            )

    @cached_property
    def patients(self) -> Patients:
        """The patients at ``data``."""
        return Patients.at(self.data)


@dataclass(frozen=True)
class StepReport:
    """Shows each step of ``recipe``, and draws a contact sheet after each validation.

    ``write`` writes to TensorBoard, or is None.
    """

    observer: Observer
    output: Path
    recipe: Recipe
    write: Write | None

    def __call__(self, progress: Progress) -> None:
        tell_step(self.observer, self.recipe.steps, progress, self.recipe.coarse)
        if self.write:
            self.write(progress.step, {"loss": progress.loss}, None)
        if progress.validation is not None and progress.prior is not None:
            sheet = _draw(progress.prior, self.output, progress.step)
            if self.write:
                self.write(progress.step, progress.validation, sheet)


def train(training: Training, output: str | Path, observer: Observer = SILENT) -> Path:
    """Train a prior, and store its results on held-out slices with it.

    Parameters
    ----------
    training
        The data and options of the training.
    output
        A new folder for the prior and its checkpoints, or the folder of the run to continue.
    observer
        Receives the patients read, each step, and at the end the images of which a copy is nearer
        to the truth than a draw.

    Returns
    -------
    Path
        The prior's folder. Its folder ``best`` has the prior with the lowest held-out loss.

    Raises
    ------
    UserError
        If the data, the recipe or the folder can't be used.
    any2all_core.training.Stopped
        On Ctrl-C or SIGTERM; the run is saved.
    """
    output = Path(output)
    start = load_prior(training.start_from, "float32", "cpu") if training.start_from else None
    recipe = _recipe(training, output, start, observer)
    first = engine().is_main_process
    if first:
        prepare_output(output, training.resume)
    found = training_slices(training, recipe.levels == "separate", observer)
    settings, held_out = found.settings, found.data.validation
    observer.say(str(found))
    write = _tensorboard(output) if training.tensorboard and first else None
    hours = training.hours if training.hours is not None else _kept_hours(training, output)
    if hours is not None:
        settings = replace(settings, training={**settings.training, HOURS: hours})

    def train_by(recipe: Recipe, run: TrainingRun) -> None:
        train_on(found.data, settings, recipe, run, start_from=start, shard=training.shard)

    run = TrainingRun(output, training.resume, training.precision)
    if training.hours is not None and not training.resume:
        recipe = recipe_in_hours(training.hours, recipe, run, train_by, observer=observer)
    shown = StepReport(observer, output, recipe, write)
    train_by(recipe, replace(run, report=shown))
    if first:
        judge_prior(output, held_out, observer)
    return output


def _recipe(
    training: Training, output: Path, start: DiffusionPrior | None, observer: Observer
) -> Recipe:
    """Return the given recipe, else that of a resumed run, else a planned one."""
    whole = f"any2all plan {training.data}"  # it writes every field
    if training.recipe is not None:
        recipe, source = read_recipe(training.recipe), f"recipe {training.recipe}"
    elif training.resume:
        recipe, source = begun(output)["recipe"], f"recipe of {output}"
    else:
        source = "the planned recipe"
        parse_options(Recipe, training.changes, source, whole)  # reports mistakes before planning
        recipe = recipe_for(training, start, observer)
        if "batch_size" in training.changes:  # the user's batch is not divided into parts
            recipe = replace(recipe, accumulate=1)
    recipe = replace(recipe, **parse_options(Recipe, training.changes, source, whole))
    if training.resume and training.hours is not None:
        kept = _kept_hours(training, output)
        if kept != training.hours:
            was = "without --hours" if kept is None else f"with --hours {kept:g}"
            raise UserError(
                f"--hours {training.hours:g}: the run in {output} was started {was}; leave --hours "
                "out to keep its number of steps"
            )
        recipe = replace(recipe, steps=begun(output)["recipe"].steps)
    return recipe


def _kept_hours(training: Training, output: Path) -> float | None:
    """Return the hours with which a resumed run was started; None if there were none."""
    if not training.resume:
        return None
    hours = read_settings(output).training.get(HOURS)
    return None if hours is None else float(hours)


def training_slices(training: Training, native: bool, observer: Observer) -> TrainingSlices:
    """Return the training slices. ``native`` says whether gaps stay missing in training."""
    patients, wanted = training.patients, training.modalities
    if patients.place == "cohort" and patients.cohort is not None:
        return cohort_slices(
            patients.cohort, wanted, observer, incomplete=training.incomplete, native=native
        )
    return folder_slices(patients, training.validation, wanted, observer)


def _draw(prior: DiffusionPrior, output: Path, step: int) -> Image:
    """Draw a contact sheet with few steps, write it, and return it."""
    sampler = make_sampler("ddpm", {"steps": str(DRAW_STEPS)})
    shape = (1, *prior.settings.image_size)
    with torch.random.fork_rng():
        stacks = reconstruct(prior, BlockDiagonal({}), {}, sampler, shape=shape, draws=DRAWS)
    (output / "draws").mkdir(exist_ok=True)
    sheet = contact_sheet(stacks[:, 0], prior.modalities)
    sheet.save(output / "draws" / f"{step:07d}.png")
    return sheet


def _tensorboard(output: Path) -> Write:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise UserError(
            "--tensorboard needs TensorBoard; run pip install 'any2all-cli[tensorboard]'"
        ) from None
    writers: list[SummaryWriter] = []  # opened at the first step

    def write(step: int, figures: dict[str, float], draws: Image | None) -> None:
        writers[:] = writers or [SummaryWriter(output / "tensorboard")]
        for name, value in figures.items():
            writers[0].add_scalar(name, value, step)
        if draws is not None:
            writers[0].add_image("draws", np.asarray(draws), step, dataformats="HW")
        writers[0].flush()

    return write
