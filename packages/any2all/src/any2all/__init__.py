"""Any2all: complete a patient's images from any mix of images and raw measurements.

All that the command ``any2all`` does, and what a method of one's own is made of.
"""

from importlib import import_module
from typing import Any

from any2all_app import (
    Completer,
    Completion,
    Filling,
    NamedPrior,
    NewPeople,
    Observer,
    Preparing,
    Publication,
    Training,
    complete,
    fill,
    find_patients,
    plan,
    prepare,
    prepare_virtual,
    push,
    train,
)
from any2all_core import load_prior, make_sampler, reconstruct, simulate
from any2all_mri import KSpace
from any2all_operators import BlockDiagonal, Identity, Operator, UserError, check_operator

__version__ = "0.1.0"

OPTIONAL = {"Evaluation": "any2all_eval.evaluation", "evaluate": "any2all_eval.evaluation"}
"""{name: the module that has it}; pip install "any2all[evaluate]" brings it."""


def __getattr__(name: str) -> Any:
    """The names of packages that need not be installed."""
    if name not in OPTIONAL:
        raise AttributeError(f"module 'any2all' has no attribute {name!r}")
    try:
        return getattr(import_module(OPTIONAL[name]), name)
    except ModuleNotFoundError as error:
        if error.name != "any2all_eval":
            raise
        raise UserError(f'{name} needs it; run pip install "any2all[evaluate]"') from None


__all__ = [
    "BlockDiagonal",
    "Completer",
    "Completion",
    "Filling",
    "Identity",
    "KSpace",
    "NamedPrior",
    "NewPeople",
    "Observer",
    "Operator",
    "Preparing",
    "Publication",
    "Training",
    "UserError",
    "check_operator",
    "complete",
    "fill",
    "find_patients",
    "load_prior",
    "make_sampler",
    "plan",
    "prepare",
    "prepare_virtual",
    "push",
    "reconstruct",
    "simulate",
    "train",
]
