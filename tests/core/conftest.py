"""Fixtures of the tests of the prior, its training and the registry."""

from __future__ import annotations

from builders.accelerator import played
from builders.plugins import install

__all__ = ["install", "played"]
