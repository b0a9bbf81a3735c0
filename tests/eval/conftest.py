"""Fixtures of the tests of evaluations."""

from __future__ import annotations

from builders.command_line import any2all, process
from builders.patients import patient
from builders.priors import prior, prior_folder

__all__ = ["any2all", "patient", "prior", "prior_folder", "process"]
