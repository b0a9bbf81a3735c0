"""Find how many steps of a recipe this machine can train in a given time."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

from any2all_core.loop import Stopped, TrainingRun
from any2all_core.recipe import Recipe
from any2all_operators import UserError

from any2all_app.observer import Observer

TRIAL = 12
"""Number of timed steps. The first step of each size is not counted."""
SHARE = 0.95
"""Share of the time for steps. The rest is for contact sheets and the final judging."""
TIMING = "timing a few steps"
VALIDATE_EVERY = 250
"""Steps between validations in any2all_core.training.train."""

Train = Callable[[Recipe, TrainingRun], object]
"""A function that trains by a recipe into a folder, and reports each step."""


@dataclass(frozen=True)
class StepTime:
    """Durations in seconds of a step at half size, a step at full size, and a validation."""

    coarse: float
    full: float
    validation: float

    def mean(self, recipe: Recipe) -> float:
        """Return the mean duration of a step in seconds, with its share of the validations."""
        step = recipe.coarse * self.coarse + (1 - recipe.coarse) * self.full
        return step + self.validation / VALIDATE_EVERY

    def steps_in(self, hours: float, recipe: Recipe) -> int:
        """Return the number of steps that fit. Raises UserError if the warm-up is longer."""
        steps = int(SHARE * hours * 3600 / self.mean(recipe))
        if steps <= recipe.warmup:
            least = (recipe.warmup + 1) * self.mean(recipe) / SHARE / 3600
            raise UserError(
                f"--hours {hours:g}: there is time for {steps} steps of {self.mean(recipe):.2g} s, "
                f"but the learning rate rises for {recipe.warmup} steps; give at least "
                f"{least:.2g}, or a smaller --recipe"
            )
        return steps


def step_time(recipe: Recipe, run: TrainingRun, train_by: Train) -> StepTime:
    """Time a few steps of both sizes, and discard the result."""
    reported = [time.perf_counter()]
    with tempfile.TemporaryDirectory() as folder:
        trial = replace(recipe, steps=TRIAL)
        try:
            timed = replace(
                run, output=Path(folder), report=lambda _: reported.append(time.perf_counter())
            )
            train_by(trial, timed)
        except Stopped:
            raise KeyboardInterrupt from None
    seconds = [later - earlier for earlier, later in pairwise(reported)]
    begins = sum(step < recipe.coarse * TRIAL for step in range(TRIAL))
    coarse, full = seconds[1:begins], seconds[begins + 1 : -1]
    at_full = statistics.median(full or coarse)
    at_half = statistics.median(coarse or full)
    return StepTime(at_half, at_full, max(seconds[-1] - at_full, 0.0))


def recipe_in_hours(
    hours: float, recipe: Recipe, run: TrainingRun, train_by: Train, *, observer: Observer
) -> Recipe:
    """Return the recipe with as many steps as fit. All processes use the first one's number."""
    from accelerate.utils import broadcast_object_list

    observer.progress(TIMING, 0, 1)
    found = step_time(recipe, run, train_by)
    observer.progress(TIMING, 1, 1)
    (steps,) = broadcast_object_list([found.steps_in(hours, recipe)])
    observer.say(
        f"--hours {hours:g}: a step takes {found.coarse:.3g} s at half size and {found.full:.3g} s "
        f"at full size, so there are {steps} steps; --resume keeps them"
    )
    return replace(recipe, steps=steps)
