"""Recipes: what a prior's network is, and how it is trained."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, fields
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, get_args

from any2all_operators import UserError

from any2all_core.prior_settings import Levels, Prediction
from any2all_core.questions import QUESTIONS

Optimizer = Literal["muon", "adam"]
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

    ``prediction``: of the network: epsilon, v or sample (x_0). ``levels``: a noise level for each
    modality (separate), or one for all (shared), as in the paper; ``questions``: of separate
    levels, the shares of the examples that are joint, given, mean, mixed and apart (see
    :func:`any2all_core.questions.draw_times`). ``min_snr``: γ of the loss weight
    min(SNR, γ) (Hang 2023, arXiv 2303.09556), 0 for none. ``channels``: of each level, ``blocks``
    residual blocks a level, attention at the last ``attention_levels``, ``norm_groups`` of group
    norm; ``patch``: pixels a side that become channels. ``batch_size``: of one process, made of
    ``accumulate`` parts, each of that size, one after another. ``optimizer``: muon or adam;
    ``learning_rate``, Adam's, and ``matrix_rate``, Muon's, rise linearly for ``warmup`` steps and
    fall linearly to zero over the last ``decay`` fraction; the EMA's decay is
    min(ema, (1+step)/(10+step)). ``coarse``: the first fraction of the steps, which take images of
    half the size, at a quarter of the cost.
    """

    prediction: Prediction = "v"
    levels: Levels = "separate"
    questions: tuple[float, ...] = (0.4, 0.25, 0.2, 0.1, 0.05)
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
    optimizer: Optimizer = "muon"
    learning_rate: float = 1e-3
    matrix_rate: float = 5e-3
    warmup: int = 200
    decay: float = 0.35
    ema: float = 0.999
    clip_norm: float = 1.0
    coarse: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        for name in AT_LEAST_1:
            if getattr(self, name) < 1:
                raise UserError(f"recipe: {name}={getattr(self, name)}, expected at least 1")
        if self.seed < 0 or not min(self.learning_rate, self.matrix_rate) > 0 or self.min_snr < 0:
            raise UserError(
                f"recipe: seed={self.seed}, learning_rate={self.learning_rate}, "
                f"matrix_rate={self.matrix_rate}, min_snr={self.min_snr}; expected at least 0, "
                "above 0, above 0, at least 0"
            )
        if not 0 <= self.coarse <= 1:
            raise UserError(f"recipe: coarse={self.coarse}, expected 0 to 1")
        for name, kind in (
            ("prediction", Prediction),
            ("levels", Levels),
            ("optimizer", Optimizer),
        ):
            if getattr(self, name) not in get_args(kind):
                raise UserError(
                    f"recipe: {name}={getattr(self, name)}, expected {', '.join(get_args(kind))}"
                )
        if self.levels == "separate" and self.prediction == "epsilon":
            raise UserError(
                "recipe: levels=separate with prediction=epsilon: the noise of a missing image "
                "says nothing of it; take prediction=v or sample, or levels=shared"
            )
        if (
            len(self.questions) != len(QUESTIONS)
            or min(self.questions) < 0
            or not any(self.questions)
        ):
            raise UserError(
                f"recipe: questions={self.questions}, expected the shares of "
                f"{', '.join(QUESTIONS)}, at least 0"
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
    if kind is tuple and isinstance(value, list):
        parts = tuple(_as(default[0], part, what) for part in value)
        return parts
    if kind is float and type(value) in (int, float):
        return float(value)
    if type(value) is kind and kind is not tuple:
        return value
    expected = {tuple: "a list of numbers", int: "a whole number", float: "a number"}
    raise UserError(f"{what} = {value!r}; expected {expected.get(kind, 'text')}")
