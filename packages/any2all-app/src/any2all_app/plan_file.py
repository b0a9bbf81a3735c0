"""Write a plan as a recipe's TOML file, with comments that explain it."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from any2all_core.hardware import gigabytes

from any2all_app.recipe_plan import Plan


def as_toml(plan: Plan) -> str:
    """Return a TOML file of the recipe, which a user may edit. ``read_recipe`` reads it."""
    recipe, values = plan.recipe, asdict(plan.recipe)
    lines = [f"# Cohort: {plan.fingerprint}."]
    lines.append(f"# Machine: {plan.machine}.")
    lines += [f"# {text}" for text in costs(plan)]
    lines.append("# You may edit the values. A key that is left out has small's value.")
    why = _reasons(plan)
    for title, names in (
        ("prior", ("prediction", "levels", "questions", "min_snr", "diffusion_steps")),
        ("network", ("channels", "blocks", "attention_levels", "norm_groups", "patch")),
        ("training", tuple(values)),
    ):
        lines += ["", f"# {title}"]
        for name in [name for name in names if name in values]:
            text = f"{name} = {_value(values.pop(name))}"
            lines.append(f"{text}  # {why[name]}" if name in why else text)
    assert not values, recipe
    return "\n".join(lines) + "\n"


def costs(plan: Plan) -> list[str]:
    """Return sentences on the memory and the time that the training needs."""
    said = [f"Memory: about {gigabytes(plan.memory)} of {gigabytes(plan.available)} is needed."]
    if not plan.fits:
        said.append("This is more than there is: prepare smaller slices, or use fewer channels.")
    if plan.time is not None and plan.seconds is not None:
        steps = [f"{plan.time.full:.2g} s per step"] if plan.recipe.coarse < 1 else []
        steps += [f"{plan.time.coarse:.2g} s per step at half size"] if plan.recipe.coarse else []
        said.append(
            f"Time: {duration(plan.seconds)}, estimated from a few steps on this machine: "
            f"{', '.join(steps)}, {plan.time.validation:.2g} s per validation."
        )
    return said


def duration(seconds: float) -> str:
    """Format seconds as ``40 s``, ``7 min`` or ``2.5 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def _reasons(plan: Plan) -> dict[str, str]:
    recipe, (height, width) = plan.recipe, plan.fingerprint.size
    multiple = recipe.patch * 2 ** (len(recipe.channels) - 1)
    padded = [-(-n // multiple) * multiple for n in (height, width)]
    last = " x ".join(str(n // multiple) for n in padded)
    levels = f"{len(recipe.channels)} levels; the last one sees {last} pixels"
    if padded != [height, width]:
        levels += f", after slices are padded to {' x '.join(map(str, padded))} by mirroring"
    images = recipe.steps * recipe.batch_size * recipe.accumulate
    times = images / max(plan.fingerprint.slices, 1)
    return {
        "levels": "separate: a noise level for each modality; shared: one for all",
        "channels": levels,
        "patch": "blocks of patch x patch pixels become channels",
        "steps": f"{images:,} slices in total, each about {times:.0f} times",
        "batch_size": f"times accumulate: {recipe.batch_size * recipe.accumulate} slices per step",
        "accumulate": "parts of a step, computed one after another to save memory",
        "coarse": "share of the steps that use images of half the size",
    }


def _value(value: Any) -> str:
    if isinstance(value, float):
        return repr(value)
    return json.dumps(list(value) if isinstance(value, tuple) else value)
