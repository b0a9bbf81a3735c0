"""The command that puts a user's images on one grid, for messages that suggest it."""

from __future__ import annotations

import shlex
from pathlib import Path

from any2all_core.stack_format import Grid

RESAMPLE = (
    "any2all sample --resample (in Python resample=True) does this for one patient, and brings the "
    "result back"
)


def prepare_line(
    source: str | Path,
    size: tuple[int, int] | None = None,
    grid: Grid | None = None,
    cohort: str | None = None,
) -> str:
    """Return ``any2all prepare SOURCE COHORT ...`` for a slice size (H, W) and a grid.

    None leaves the default of prepare. The default cohort is SOURCE-cohort.
    """
    source = Path(source)
    if not source.name:  # "." and "/" give no name for the cohort
        source = source.resolve()
    words = ["any2all", "prepare", str(source), cohort or f"{source}-cohort"]
    if size is not None:
        words += ["--size", ",".join(map(str, size))]
    if grid is not None:
        spacing = grid.spacing
        words += ["--spacing", ",".join(f"{s:g}" for s in spacing) if spacing else "native"]
        words += ["--reference", grid.reference] if grid.reference != "T1" else []
    return shlex.join(words)
