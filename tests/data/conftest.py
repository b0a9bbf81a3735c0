"""Fixtures of the tests of files and cohorts."""

from __future__ import annotations

from builders.patients import patient

__all__ = ["patient"]
