"""Options that several commands have, and the groups that their help shows them in."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

PATIENT, PRIOR, RESULT, RUNNING = "Patient", "Prior and sampler", "Result", "Running"
DATA, RECIPE, GRID, COHORT = "Data", "Recipe", "Grid and registration", "Cohort"
"""Titles of the groups."""

SamplerText = Annotated[
    str,
    typer.Option(
        "--sampler",
        metavar="NAME[:OPTION=VALUE,...]",
        help="An installed sampler, with options of its own; see any2all plugins mds",
        rich_help_panel=PRIOR,
    ),
]
OldOptions = Annotated[list[str] | None, typer.Option("--set", hidden=True)]
OldPreset = Annotated[str | None, typer.Option("--preset", hidden=True)]
Seed = Annotated[
    int,
    typer.Option(min=0, metavar="N", help="Seed of all random numbers", rich_help_panel=RUNNING),
]
Precision = Annotated[
    str,
    typer.Option(metavar="NAME", help="auto, float32 or bfloat16", rich_help_panel=RUNNING),
]
Device = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="cpu, cuda:N, or auto: the GPU of this process, if it has one",
        rich_help_panel=RUNNING,
    ),
]
TrustAxes = Annotated[
    bool,
    typer.Option(
        "--trust-axes",
        help="Read NIfTI whose form codes are both 0: x, y, z run to the right, front and top",
        rich_help_panel=PATIENT,
    ),
]

HeldOut = Annotated[
    Path | None,
    typer.Option(
        metavar="FOLDER",
        help="Held-out patients, where the training data is a folder",
        show_default="a tenth of it",
        rich_help_panel=DATA,
    ),
]
TrainedModalities = Annotated[
    str | None,
    typer.Option(
        metavar="LIST",
        help="Modalities in order, as T1,FLAIR",
        show_default="all that every patient has",
        rich_help_panel=DATA,
    ),
]


def with_old_options(sampler: str, changes: Sequence[str] | None, preset: str | None) -> str:
    """NAME:OPTION=VALUE,... with what ``--set`` and ``--preset`` add, which are old."""
    added = [f"preset={preset}"] if preset else []
    added += changes or []
    if not added:
        return sampler
    return f"{sampler}{',' if '=' in sampler else ':'}{','.join(added)}"


def say_if_old(sampler: str, changes: Sequence[str] | None, preset: str | None) -> None:
    """Say at the end of a run that ``--set`` and ``--preset`` are taken for this release only."""
    if changes or preset:
        typer.echo(
            f"--set and --preset are old and will go; write --sampler {sampler} instead", err=True
        )
