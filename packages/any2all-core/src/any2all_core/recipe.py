"""Recipes: what a prior's network is, and how it is trained."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, fields
from importlib.resources import files
from pathlib import Path
from typing import Any, get_args

from any2all_operators import UserError

from any2all_core.prior import Prediction

SHIPPED = ("small", "paper")
"""Recipes that come with this package, as ``recipes/<name>.toml``."""
AT_LEAST_1 = (
    "blocks",
    "norm_groups",
    "patch",
    "diffusion_steps",
    "steps",
    "batch_size",
    "accumulate",
)


@dataclass(frozen=True)
class Recipe:
    """Network and optimisation; every field may stand in a recipe's TOML file.

    ``prediction``: of the network: epsilon, v or sample (x_0). ``min_snr``: γ of the loss weight
    min(SNR, γ) (Hang 2023, arXiv 2303.09556), 0 for none. ``channels``: of each level, ``blocks``
    residual blocks a level, attention at the last ``attention_levels``, ``norm_groups`` of group
    norm; ``patch``: pixels a side that become channels. ``batch_size``: of one process, made of
    ``accumulate`` parts, each of that size, one after another. ``learning_rate`` rises linearly for
    ``warmup`` steps and falls linearly to zero over the last ``decay`` fraction; the EMA's decay is
    min(ema, (1+step)/(10+step)).
    """

    prediction: Prediction = "v"
    min_snr: float = 0.0
    channels: tuple[int, ...] = (64, 128, 192, 160)
    blocks: int = 2
    attention_levels: int = 1
    norm_groups: int = 4
    patch: int = 2
    diffusion_steps: int = 1000
    steps: int = 7000
    batch_size: int = 16
    accumulate: int = 1
    learning_rate: float = 1e-3
    warmup: int = 200
    decay: float = 0.35
    ema: float = 0.999
    clip_norm: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in AT_LEAST_1:
            if getattr(self, name) < 1:
                raise UserError(f"recipe: {name}={getattr(self, name)}, expected at least 1")
        if self.seed < 0 or not self.learning_rate > 0 or self.min_snr < 0:
            raise UserError(
                f"recipe: seed={self.seed}, learning_rate={self.learning_rate}, "
                f"min_snr={self.min_snr}; expected at least 0, above 0, at least 0"
            )
        if self.prediction not in get_args(Prediction):
            raise UserError(
                f"recipe: prediction={self.prediction}, expected {', '.join(get_args(Prediction))}"
            )
        if any(width % self.norm_groups for width in self.channels):
            raise UserError(
                f"recipe: channels {self.channels} don't divide into norm_groups={self.norm_groups}"
            )


def read_recipe(name: str | Path) -> Recipe:
    """A recipe by the name of a shipped one, or from a TOML file; what it leaves out is small's.

    Raises UserError naming the file and what is wrong in it.
    """
    path = files("any2all_core") / f"recipes/{name}.toml" if name in SHIPPED else Path(name)
    try:
        told = tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError):
        raise UserError(
            f"recipe {name}: no such file; expected {', '.join(SHIPPED)} or a TOML file"
        ) from None
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"recipe {name}: not readable as TOML ({error})") from None
    known = {field.name: field.default for field in fields(Recipe)}
    for key, value in told.items():
        if key not in known:
            raise UserError(f"recipe {name}: {key} is unknown; there are {', '.join(known)}")
        told[key] = _as(known[key], value, f"recipe {name}: {key}")
    return Recipe(**told)


def _as(default: Any, value: Any, what: str) -> Any:
    """A value of the default's kind. Raises UserError for one of another."""
    kind = type(default)
    if kind is tuple and isinstance(value, list) and all(type(part) is int for part in value):
        return tuple(value)
    if kind is float and type(value) in (int, float):
        return float(value)
    if type(value) is kind and kind is not tuple:
        return value
    expected = {tuple: "a list of whole numbers", int: "a whole number", float: "a number"}
    raise UserError(f"{what} = {value!r}; expected {expected.get(kind, 'text')}")
