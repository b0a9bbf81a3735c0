"""Fixtures of the tests of the Python interface."""

from __future__ import annotations

from builders.command_line import any2all, process
from builders.hub import hub
from builders.patients import patient
from builders.plugins import install
from builders.priors import prior, prior_folder

__all__ = ["any2all", "hub", "install", "patient", "prior", "prior_folder", "process"]
