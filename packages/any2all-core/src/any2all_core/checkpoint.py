"""The folder of a training run: its checkpoints, and the prior or method trained so far."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Protocol

import torch
from any2all_operators import UserError
from safetensors import SafetensorError

from any2all_core.prior import DiffusionPrior
from any2all_core.recipe import Recipe

CHECKPOINT = "checkpoint.pt"
BEST = "best"
MAY_CHANGE = ("recipe", "steps", "accumulate")
FORMER = {"levels": "shared", "optimizer": "adam", "coarse": 0.0}
"""Values of older runs, whose recipes did not have these fields."""
LEFT_OVER = ("draws", "log.jsonl", "tensorboard", f"{CHECKPOINT}.part")
"""Files left by a run that ended before its first checkpoint. They may be overwritten."""
UNSAID = ("questions", "matrix_rate")
"""Fields that older runs did not use."""


def prepare_output(output: Path, resume: bool) -> None:
    """Make the folder of a run and check it before any work is done.

    Raises UserError if it cannot be written, holds something else, or has nothing to resume.
    """
    if resume:
        _checkpoint_in(output)
    try:
        output.mkdir(parents=True, exist_ok=True)
        if not resume and any(path.name not in LEFT_OVER for path in output.iterdir()):
            raise UserError(
                f"{output}: not empty; choose another --output, or --resume to go on with its run"
            )
        (output / ".writable").touch()
        (output / ".writable").unlink()
    except OSError as error:
        raise UserError(f"{output}: {error.strerror}; choose another --output") from None


def _checkpoint_in(output: Path) -> Path:
    path = output / CHECKPOINT
    if not path.exists():
        raise UserError(f"{path}: nothing to resume; start without --resume")
    return path


def begun(output: Path) -> dict[str, Any]:
    """The settings with which the run in ``output`` began; ``recipe`` is a :class:`Recipe`.

    Raises UserError if there is no readable checkpoint.
    """
    path, identity = output / CHECKPOINT, identity_of(output)
    try:
        return identity | {"recipe": Recipe(**{**FORMER, **identity["recipe"]})}
    except Exception as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{path}: damaged or of another version ({reason}); train again") from None


def identity_of(output: Path) -> dict[str, Any]:
    """The settings with which the run of a prior or a method in ``output`` began.

    Raises UserError if there is no readable checkpoint.
    """
    path = _checkpoint_in(output)
    try:
        state = torch.load(path, weights_only=True, map_location="cpu", mmap=True)
        return dict(state["identity"])
    except Exception as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{path}: damaged or of another version ({reason}); train again") from None


class Model(Protocol):
    """A model that a run trains: a prior or a method."""

    SETTINGS: ClassVar[str]
    """Name of the settings file in its folder, which is written last."""
    settings: Any

    def save(self, folder: str | Path) -> None: ...


def restore(
    output: Path,
    identity: Mapping[str, Any],
    prior: DiffusionPrior,
    ema: DiffusionPrior,
) -> tuple[int, dict[str, Any]]:
    """Load the weights of the checkpoint; returns its step and the optimizer's state."""
    step, state = read_checkpoint(output, identity)
    prior.load_state_dict(state["prior"])
    ema.load_state_dict(state["ema"])
    ema.settings = replace(ema.settings, training=without_grid(state["training"]))
    return step, state["optimizer"]


def read_checkpoint(output: Path, identity: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
    """Read the step and the state of a checkpoint whose run has the settings ``identity``.

    The split of a batch over processes and ``accumulate`` may differ if the batch is as large. The
    number of steps may change only until the learning rate begins to fall, because a rate that
    rises again destroys a trained network. Raises UserError for any other difference.
    """
    path = output / CHECKPOINT
    try:
        state = torch.load(path, weights_only=True, map_location="cpu")
        was, now = ({**FORMER, **i["recipe"], **_named(i)} for i in (state["identity"], identity))
    except Exception as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{path}: damaged or of another version ({reason}); train again") from None
    for name in now:
        if name in MAY_CHANGE or (name in UNSAID and name not in was):
            continue
        if was.get(name) != now[name]:
            raise UserError(
                f"{path}: its run has {name} = {was.get(name)}, not {now[name]}; "
                "resume with the same settings"
            )
    step = int(was["step"])
    if now["steps"] < step:
        raise UserError(f"{path}: has {step} steps already, more than steps={now['steps']}")
    if now["steps"] != was["steps"] and step > (1 - now["decay"]) * was["steps"]:
        raise UserError(
            f"{path}: at step {step} its learning rate falls towards its end at {was['steps']}; "
            "resume with that number of steps, or train it on in a new folder with --start-from"
        )
    return step, state


def without_grid(training: Mapping[str, Any]) -> dict[str, Any]:
    """The record of a run without the grid, which older runs kept in it."""
    return {name: value for name, value in training.items() if name != "grid"}


def _named(identity: Mapping[str, Any]) -> dict[str, Any]:
    """An identity with ``ranges``, which older runs kept as ``normalisation``."""
    named = dict(identity)
    if "normalisation" in named:
        old = named.pop("normalisation")
        named["ranges"] = {m: [v["low"], v["high"]] for m, v in old.items() if "low" in v}
    return named


def save_checkpoint(
    output: Path,
    identity: Mapping[str, Any],
    state: Mapping[str, Any],
    ema: Model,
    *,
    entry: Mapping[str, Any],
) -> None:
    """Replace the checkpoint and then the model's files, each atomically by a rename.

    ``state`` holds the weights and optimizers; ``ema`` is the model of the averaged weights.
    """
    state = {"identity": dict(identity), "training": dict(ema.settings.training), **state}
    temporary = output / (CHECKPOINT + ".part")
    try:
        with temporary.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, output / CHECKPOINT)
        export(output, ema)
        keep_best(output, ema)
        with (output / "log.jsonl").open("a") as log:
            log.write(json.dumps(entry) + "\n")
    except (
        OSError,
        RuntimeError,
        SafetensorError,
    ) as error:  # torch and safetensors have their own
        temporary.unlink(missing_ok=True)
        why = str(error).splitlines()[0]
        raise UserError(
            f"{output}: step {entry['step']} can't be saved ({why}); make room, then --resume from "
            "the previous checkpoint, which is intact"
        ) from None


def keep_best(output: Path, ema: Model) -> None:
    """Save the model to ``output/best`` if its validation loss is the lowest so far."""
    figure = ema.settings.training.get("validation_loss")
    if figure is None:
        return
    path = output / BEST / ema.SETTINGS
    if path.exists():
        kept = json.loads(path.read_text())["training"].get("validation_loss", math.inf)
        if kept <= figure:
            return
    (output / BEST).mkdir(exist_ok=True)
    export(output / BEST, ema)


def export(output: Path, ema: Model) -> None:
    """Save the averaged weights into ``output``, and the settings file last."""
    folder = output / f"{Path(ema.SETTINGS).stem}.part"
    ema.save(folder)
    for path in sorted(folder.iterdir(), key=lambda path: path.name == ema.SETTINGS):
        os.replace(path, output / path.name)
    shutil.rmtree(folder)
