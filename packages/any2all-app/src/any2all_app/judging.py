"""Judge a prior or a method on held-out slices at the end of its training."""

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

from any2all_app.copies import METHOD, PRIOR, answer_nearness, copy_is_nearer, draw_nearness
from any2all_app.error_floor import fit_error_floor
from any2all_app.observer import Observer

JUDGING = "judging on held-out slices"
WORSE = 1.25
"""A warning is given if the last held-out loss is this many times the lowest."""


def judge_prior(output: Path, held_out: Tensor, observer: Observer) -> None:
    """Measure a prior and its best version on held-out slices (N, M, H, W), and tell the user.

    The error floor and the PSNR of draws and of copies are stored with the prior.
    """
    observer.progress(JUDGING, 0, 1)
    last = DiffusionPrior.load(output)
    settings = judged = _judged(last, held_out)
    write_settings(judged, output)
    if read_settings(output / BEST).steps != last.settings.steps:
        settings = _judged(DiffusionPrior.load(output / BEST), held_out)
    write_settings(settings, output / BEST)
    observer.progress(JUDGING, 1, 1)
    _warn(judged, settings, output, observer)


def judge_method(output: Path, held_out: Tensor, observer: Observer) -> None:
    """Measure a method and its best version on held-out slices (N, M, H, W), and tell the user.

    The PSNR of answers and of copies is stored with the method, if it synthesises images.
    """
    last, best = FittedMethod.load(output), FittedMethod.load(output / BEST)
    if "synthesis" in last.method.abilities and len(last.modalities) > 1:
        observer.progress(JUDGING, 0, 1)
        found = answer_nearness(last, held_out)
        _keep(last, found, output)
        if best.settings.steps != last.settings.steps:
            found = answer_nearness(best, held_out)
        _keep(best, found, output / BEST)
        observer.progress(JUDGING, 1, 1)
    _warn(last.settings, best.settings, output, observer, who=METHOD)


def _keep(fitted: FittedMethod, found: Mapping[str, Any], folder: Path) -> None:
    """Store the PSNR of its answers with a method."""
    training = {**fitted.settings.training, "missing": found}
    fitted.settings = replace(fitted.settings, training=training)
    export(folder, fitted)


def _judged(prior: DiffusionPrior, held_out: Tensor) -> PriorSettings:
    floor = fit_error_floor(prior, held_out)
    prior.settings = replace(prior.settings, error_floor=floor)
    found = draw_nearness(prior, held_out) if len(prior.modalities) > 1 else {}
    training = {**prior.settings.training, "missing": found}
    return replace(prior.settings, training=training)


def _warn(
    last: ModelSettings, best: ModelSettings, output: Path, observer: Observer, *, who: str = PRIOR
) -> None:
    """Warn if a copy is nearer than an answer, or if the run ended worse than its best."""
    for name in last.modalities:
        given = [m for m in last.modalities if m != name]
        if said := copy_is_nearer(last.nearness, name, given, who):
            observer.say(f"{name}: {said}")
    ended, least = (s.training.get("validation_loss") for s in (last, best))
    if ended is not None and least is not None and ended > WORSE * least:
        observer.say(
            f"the held-out loss ended at {ended:.3g}, but was {least:.3g} at step {best.steps}: "
            f"the run became worse. Use {output / BEST}, or train again with fewer steps or a "
            "lower learning_rate"
        )
