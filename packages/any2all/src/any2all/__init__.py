"""Any2all: complete a patient's images from any mix of images and raw measurements.

This package exports everything that the command ``any2all`` does, and the parts from which you
build a method of your own.
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
    Report,
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
"""{name: its module}; pip install "any2all[evaluate]" installs it."""


def __getattr__(name: str) -> Any:
    """Import a name from an optional package."""
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
    "Report",
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
