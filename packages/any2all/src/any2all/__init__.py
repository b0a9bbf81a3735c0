"""Any2all: complete a patient's images from any mix of images and raw measurements.

All that the command ``any2all`` does, and what a method of one's own is made of.
"""

from any2all_app import (
    Completer,
    Completion,
    Filling,
    NamedPrior,
    NewPeople,
    Observer,
    Training,
    complete,
    fill,
    train,
)
from any2all_core import load_prior, make_sampler, reconstruct, simulate
from any2all_data import KSpace
from any2all_operators import BlockDiagonal, Identity, Operator, UserError, check_operator

__version__ = "0.1.0"

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
    "Training",
    "UserError",
    "check_operator",
    "complete",
    "fill",
    "load_prior",
    "make_sampler",
    "reconstruct",
    "simulate",
    "train",
]
