"""Recipes: the network of a prior and the settings of its training."""

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
    """Network and optimisation. Each field is a key of a recipe's TOML file.

    Parameters
    ----------
    prediction
        Output of the network: "epsilon", "v" or "sample" (x_0).
    levels
        Noise levels: "separate" for each modality, or "shared" by all, as in the paper.
    questions
        For separate levels, the shares of examples that are joint, given, mean, mixed and apart;
        see :func:`any2all_core.questions.draw_times`.
    min_snr
        γ of the loss weight min(SNR, γ) (Hang 2023, arXiv 2303.09556); 0 for no weight.
    channels
        Channels at each level of the U-Net.
    blocks
        Residual blocks per level.
    attention_levels
        Number of levels with attention, counted from the lowest resolution.
    norm_groups
        Groups of the group norm.
    patch
        Side in pixels of the square patches that become channels.
    diffusion_steps
        T of the noise schedule.
    steps
        Number of training steps.
    batch_size
        Examples that a process computes at a time.
    accumulate
        Number of such parts whose gradients are accumulated for one step of the optimizer.
    optimizer
        "muon" or "adam".
    learning_rate, matrix_rate
        Peak learning rates of Adam and of Muon. They rise linearly over the first ``warmup`` steps
        and fall linearly to zero over the last fraction ``decay`` of the steps.
    ema
        Largest decay of the exponential moving average; it is min(ema, (1+step)/(10+step)).
    clip_norm
        Largest norm of the gradient.
    coarse
        Fraction of the steps, at the beginning, with images of half the size, which cost a quarter.
    seed
        Seed of the training.
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
                f"matrix_rate={self.matrix_rate}, min_snr={self.min_snr}; expected rates above 0, "
                "and the others at least 0"
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
                "has no information on it; take prediction=v or sample, or levels=shared"
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
                f"recipe: channels {self.channels} are not multiples of "
                f"norm_groups={self.norm_groups}"
            )


def read_recipe(name: str | Path) -> Recipe:
    """Read a recipe: a shipped one by its name, or a TOML file.

    Missing keys take the values of the recipe ``small``. Raises UserError that names the file and
    its mistake.
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
    """The value converted to the type of the default. Raises UserError if it has another type."""
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
