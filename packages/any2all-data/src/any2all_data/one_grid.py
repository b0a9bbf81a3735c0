"""The command line that puts a user's own images on one grid, for messages that name it."""

from __future__ import annotations

import shlex
from pathlib import Path

from any2all_core.stack_format import Grid

RESAMPLE = "any2all sample --resample does it for one patient, and brings the result back"


def prepare_line(
    source: str | Path,
    size: tuple[int, int] | None = None,
    grid: Grid | None = None,
    cohort: str | None = None,
) -> str:
    """``any2all prepare SOURCE COHORT ...`` for the slices (H, W) and the grid of a prior.

    None leaves either to prepare; the cohort is then SOURCE-cohort.
    """
    source = Path(source)
    if not source.name:  # . and / have no name to call a cohort after
        source = source.resolve()
    words = ["any2all", "prepare", str(source), cohort or f"{source}-cohort"]
    if size is not None:
        words += ["--size", ",".join(map(str, size))]
    if grid is not None:
        spacing = grid.spacing
        words += ["--spacing", ",".join(f"{s:g}" for s in spacing) if spacing else "native"]
        words += ["--reference", grid.reference] if grid.reference != "T1" else []
    return shlex.join(words)
