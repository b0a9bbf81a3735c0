"""The folder of a training run: checkpoints, and the prior or method that it is at any time."""

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
"""What runs were before their recipes said so."""
LEFT_OVER = ("draws", "log.jsonl", "tensorboard", f"{CHECKPOINT}.part")
"""What a run that ended before its first checkpoint may leave: there is nothing in it to lose."""
UNSAID = ("questions", "matrix_rate")
"""What had no part in those runs."""


def prepare_output(output: Path, resume: bool) -> None:
    """Make the folder of a run, so that what is wrong with it is known before any work is done.

    Raises UserError when it can't be written, holds something else, or has nothing to resume.
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
    """What the run in ``output`` was begun with: its ``recipe`` (a :class:`Recipe`) and the rest.

    Raises UserError where there is no checkpoint, or one that can't be read.
    """
    path, identity = output / CHECKPOINT, identity_of(output)
    try:
        return identity | {"recipe": Recipe(**{**FORMER, **identity["recipe"]})}
    except Exception as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{path}: damaged or of another version ({reason}); train again") from None


def identity_of(output: Path) -> dict[str, Any]:
    """What the run in ``output``, of a prior or a method, was begun with. Raises UserError."""
    path = _checkpoint_in(output)
    try:
        state = torch.load(path, weights_only=True, map_location="cpu", mmap=True)
        return dict(state["identity"])
    except Exception as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{path}: damaged or of another version ({reason}); train again") from None


class Model(Protocol):
    """What a run is at any time: a prior, or a method."""

    SETTINGS: ClassVar[str]
    """The file of its folder that says what it is, written last."""
    settings: Any

    def save(self, folder: str | Path) -> None: ...


def restore(
    output: Path,
    identity: Mapping[str, Any],
    prior: DiffusionPrior,
    ema: DiffusionPrior,
) -> tuple[int, dict[str, Any]]:
    """Load the checkpoint's weights; the step it was made at, and the optimizer's state."""
    step, state = read_checkpoint(output, identity)
    prior.load_state_dict(state["prior"])
    ema.load_state_dict(state["ema"])
    ema.settings = replace(ema.settings, training=without_grid(state["training"]))
    return step, state["optimizer"]


def read_checkpoint(output: Path, identity: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
    """The step that a checkpoint was made at, and all of it, if its run is that of ``identity``.

    The parts of a batch may be others (processes, ``accumulate``), the whole being as large.
    The number of steps may be changed, and only until the learning rate has begun to fall:
    at a rate that jumps up again a trained network falls apart.
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
                f"{path}: its run has {name} = {was.get(name)}, given was {now[name]}; "
                "resume with the same settings"
            )
    step = int(was["step"])
    if now["steps"] < step:
        raise UserError(f"{path}: has {step} steps already, given was steps={now['steps']}")
    if now["steps"] != was["steps"] and step > (1 - now["decay"]) * was["steps"]:
        raise UserError(
            f"{path}: at step {step} its learning rate falls towards its end at {was['steps']}; "
            "resume with that number of steps, or train it on in a new folder with --start-from"
        )
    return step, state


def without_grid(training: Mapping[str, Any]) -> dict[str, Any]:
    """The record of a run, without the grid that older ones kept in it."""
    return {name: value for name, value in training.items() if name != "grid"}


def _named(identity: Mapping[str, Any]) -> dict[str, Any]:
    """An identity with ``ranges``, where an older run kept them as its ``normalisation``."""
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
    """Replace the checkpoint in one rename; then the model's files, each in one rename.

    state: weights and optimizers; ``ema``: the model of the averaged weights.
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
            f"{output}: step {entry['step']} can't be saved ({why}); make room, then --resume: the "
            "checkpoint before is whole"
        ) from None


def keep_best(output: Path, ema: Model) -> None:
    """Make ``output/best`` this model, if it was validated and its loss is the least so far."""
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
    """Make ``output`` a folder of the averaged weights; what it says of them comes last."""
    folder = output / f"{Path(ema.SETTINGS).stem}.part"
    ema.save(folder)
    for path in sorted(folder.iterdir(), key=lambda path: path.name == ema.SETTINGS):
        os.replace(path, output / path.name)
    shutil.rmtree(folder)
