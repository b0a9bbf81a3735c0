"""Fixtures of the tests of the viewer."""

from __future__ import annotations

from builders.command_line import any2all
from builders.priors import prior_folder

__all__ = ["any2all", "prior_folder"]
