"""Fixtures of the tests of the samplers."""

from __future__ import annotations

from builders.accelerator import played
from builders.priors import prior, prior_folder

__all__ = ["played", "prior", "prior_folder"]
