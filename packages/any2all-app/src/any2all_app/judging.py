"""What held-out slices say of a prior or a method when its training has ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from any2all_core.checkpoint import BEST, export
from any2all_core.fitted import FittedMethod
from any2all_core.model_settings import ModelSettings
from any2all_core.prior import DiffusionPrior
from any2all_core.prior_settings import PriorSettings, read_settings, write_settings
from torch import Tensor

from any2all_app.copies import METHOD, PRIOR, answers_beside_copies, beside_copies, copy_is_nearer
from any2all_app.error_floor import fit_error_floor
from any2all_app.observer import Observer

JUDGING = "held-out slices: the own error, and copies beside the answers"
WORSE = 1.25
"""A run whose held-out loss ends this many times above its least has lost what it had learnt."""


def judge_prior(output: Path, held_out: Tensor, observer: Observer) -> None:
    """Keep in a prior, and in its best, what held-out slices say of it, and tell the user.

    That is its error floor, and how near its draws, and copies, come to missing images.
    ``held_out``: (N, M, H, W).
    """
    observer.progress(JUDGING, 0, 1)
    last = DiffusionPrior.load(output)
    settings = judged = _judged(last, held_out)
    write_settings(judged, output)
    if read_settings(output / BEST).steps != last.settings.steps:
        settings = _judged(DiffusionPrior.load(output / BEST), held_out)
    write_settings(settings, output / BEST)
    observer.progress(JUDGING, 1, 1)
    _tell(judged, settings, output, observer)


def judge_method(output: Path, held_out: Tensor, observer: Observer) -> None:
    """Keep in a method, and in its best, how near its answers, and copies, come; tell the user.

    ``held_out``: (N, M, H, W). A method that does not synthesise is not asked.
    """
    last, best = FittedMethod.load(output), FittedMethod.load(output / BEST)
    if "synthesis" in last.method.abilities and len(last.modalities) > 1:
        observer.progress(JUDGING, 0, 1)
        found = answers_beside_copies(last, held_out)
        _keep(last, found, output)
        if best.settings.steps != last.settings.steps:
            found = answers_beside_copies(best, held_out)
        _keep(best, found, output / BEST)
        observer.progress(JUDGING, 1, 1)
    _tell(last.settings, best.settings, output, observer, who=METHOD)


def _keep(fitted: FittedMethod, found: Mapping[str, Any], folder: Path) -> None:
    """Write a method anew, with how near its answers came."""
    training = {**fitted.settings.training, "missing": found}
    fitted.settings = replace(fitted.settings, training=training)
    export(folder, fitted)


def _judged(prior: DiffusionPrior, held_out: Tensor) -> PriorSettings:
    floor = fit_error_floor(prior, held_out)
    prior.settings = replace(prior.settings, error_floor=floor)
    found = beside_copies(prior, held_out) if len(prior.modalities) > 1 else {}
    training = {**prior.settings.training, "missing": found}
    return replace(prior.settings, training=training)


def _tell(
    last: ModelSettings, best: ModelSettings, output: Path, observer: Observer, *, who: str = PRIOR
) -> None:
    """Say where a copy is nearer, and whether the run ended worse than it once was."""
    for name in last.modalities:
        given = [m for m in last.modalities if m != name]
        if said := copy_is_nearer(last.nearness, name, given, who):
            observer.say(f"{name}: {said}")
    ended, least = (s.training.get("validation_loss") for s in (last, best))
    if ended is not None and least is not None and ended > WORSE * least:
        observer.say(
            f"the held-out loss ended at {ended:.3g}, after {least:.3g} at step {best.steps}: the "
            f"run lost what it had learnt. Take {output / BEST}, or train again with fewer steps "
            "or a lower learning_rate"
        )
