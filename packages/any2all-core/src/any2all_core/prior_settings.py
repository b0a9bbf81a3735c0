"""The settings of a prior, stored as ``prior.json`` beside its weights."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from any2all_operators import UserError

from any2all_core.model_settings import ModelSettings, images_of
from any2all_core.schedule import Kind

Prediction = Literal["epsilon", "v", "sample"]
Levels = Literal["separate", "shared"]
SETTINGS = "prior.json"
FORMAT = 2
"""Format of ``prior.json``. Format 1, which is still read, had ``modalities``, ``image_size``,
``normalisation`` and ``training.grid`` instead of ``images``."""


@dataclass(frozen=True)
class PriorSettings(ModelSettings):
    """The settings of a prior, stored as ``prior.json`` beside its weights.

    Parameters
    ----------
    format
        The images that the prior was trained on (``images`` in the file).
    training
        A human-readable record of the training.
    prediction
        Output of the network: "epsilon", "v" or "sample" (x_0).
    levels
        "separate" if each modality has its own noise level, which the network receives in M more
        channels; "shared" if all modalities share one.
    patch
        The network receives pixel_unshuffle(x, patch), so a stack of M images enters as M·patch²
        channels of (H/patch, W/patch).
    diffusion_steps
        T of the noise schedule.
    schedule
        The noise schedule: "cosine" or "linear".
    network
        "diffusers" for a ``UNet2DModel``, or the name of a plugin of the group
        ``any2all.networks`` that builds another network.
    error_floor
        Smallest standard deviation of the error of x̂_0, in [0, 1] units. It remains even without
        noise, because a network is never exact.
    """

    prediction: Prediction = "v"
    levels: Levels = "shared"
    patch: int = 2
    diffusion_steps: int = 1000
    schedule: Kind = "cosine"
    network: str = "diffusers"
    error_floor: float = 0.0


def read_settings(folder: Path) -> PriorSettings:
    """Read the settings in a prior's folder. Raises UserError that names the file."""
    path = folder / SETTINGS
    told = read_json(path)
    if told.pop("format", None) not in (1, FORMAT):
        raise UserError(f"{path}: not a prior of format 1 or {FORMAT}; update any2all")
    try:
        return PriorSettings(images_of(told), **told)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise damaged(error, folder) from None


def write_settings(settings: PriorSettings, folder: Path) -> None:
    """Write ``prior.json`` atomically, by a rename."""
    own = {f.name: getattr(settings, f.name) for f in fields(settings)}
    training = own.pop("training")
    images = own.pop("format").to_json()
    told = {"format": FORMAT, "images": images, **own, "training": training}
    temporary = folder / f"{SETTINGS}.part"
    temporary.write_text(json.dumps(told, indent=2) + "\n")
    os.replace(temporary, folder / SETTINGS)


def damaged(error: Exception, folder: Path) -> UserError:
    """The user's message for an error in ``prior.json`` or ``config.json``."""
    if isinstance(error, UserError):
        return error
    reason = f"{type(error).__name__}: {str(error).splitlines()[0]}"
    return UserError(f"{folder}: prior.json or config.json is damaged ({reason}); copy it again")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object from a prior's folder. Raises UserError that names the file."""
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; a prior is a folder written by 'train'") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not readable as JSON ({error}); copy the prior again") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: not a prior's settings; copy the prior again")
    return content
