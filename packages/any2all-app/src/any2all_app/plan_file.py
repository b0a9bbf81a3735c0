"""A plan as a recipe's TOML file: what it was made for, and why each value is what it is."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from any2all_core.hardware import gigabytes

from any2all_app.recipe_plan import Plan


def as_toml(plan: Plan) -> str:
    """The recipe, to be read by :func:`any2all_core.recipe.read_recipe`, and edited before."""
    recipe, values = plan.recipe, asdict(plan.recipe)
    lines = [f"# Cohort: {plan.fingerprint}."]
    lines.append(f"# Machine: {plan.machine}.")
    lines += [f"# {text}" for text in costs(plan)]
    lines.append("# Edit what you like; a key that is left out is that of the recipe small.")
    why = _reasons(plan)
    for title, names in (
        ("what the prior is", ("prediction", "levels", "questions", "min_snr", "diffusion_steps")),
        ("its network", ("channels", "blocks", "attention_levels", "norm_groups", "patch")),
        ("how it is trained", tuple(values)),
    ):
        lines += ["", f"# {title}"]
        for name in [name for name in names if name in values]:
            text = f"{name} = {_value(values.pop(name))}"
            lines.append(f"{text}  # {why[name]}" if name in why else text)
    assert not values, recipe
    return "\n".join(lines) + "\n"


def costs(plan: Plan) -> list[str]:
    """What it takes of memory and of time, as sentences."""
    said = [f"Memory: about {gigabytes(plan.memory)} of {gigabytes(plan.available)}."]
    if not plan.fits:
        said.append("That is too little: prepare smaller slices, or take fewer channels.")
    if plan.time is not None and plan.seconds is not None:
        steps = [f"{plan.time.full:.2g} s a step"] if plan.recipe.coarse < 1 else []
        steps += [f"{plan.time.coarse:.2g} s a step at half size"] if plan.recipe.coarse else []
        said.append(
            f"Time: {duration(plan.seconds)}, by a few steps that were timed on this machine: "
            f"{', '.join(steps)}, {plan.time.validation:.2g} s a validation."
        )
    return said


def duration(seconds: float) -> str:
    """Seconds as a user reads them."""
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
        levels += f" of slices that are mirrored to {' x '.join(map(str, padded))}"
    images = recipe.steps * recipe.batch_size * recipe.accumulate
    times = images / max(plan.fingerprint.slices, 1)
    return {
        "levels": "a noise level for each modality, or one for all: shared",
        "channels": levels,
        "patch": "pixels a side that become channels",
        "steps": f"{images:,} images, each slice about {times:.0f} times",
        "batch_size": f"{recipe.batch_size * recipe.accumulate} slices a step",
        "accumulate": "parts of a step, one after another, where memory is short",
        "coarse": "the share of the steps that take images of half the size",
    }


def _value(value: Any) -> str:
    if isinstance(value, float):
        return repr(value)
    return json.dumps(list(value) if isinstance(value, tuple) else value)
