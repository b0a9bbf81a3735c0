"""Options shared by several commands, and the groups in which their help shows them."""

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
        help="Installed sampler and its options; any2all plugins NAME explains them. If only "
        "images are given, mean is the fastest and has the least error",
        rich_help_panel=PRIOR,
    ),
]
OldOptions = Annotated[list[str] | None, typer.Option("--set", hidden=True)]
OldPreset = Annotated[str | None, typer.Option("--preset", hidden=True)]
Seed = Annotated[
    int,
    typer.Option(min=0, metavar="N", help="Seed of every random draw", rich_help_panel=RUNNING),
]
Precision = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="Number format of the network: auto, float32 or bfloat16",
        rich_help_panel=RUNNING,
    ),
]
Device = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="cpu, cuda:N or auto; auto takes the GPU of this process if it has one",
        rich_help_panel=RUNNING,
    ),
]
TrustAxes = Annotated[
    bool,
    typer.Option(
        "--trust-axes",
        help="Read a NIfTI file whose qform and sform codes are both 0 as RAS+",
        rich_help_panel=PATIENT,
    ),
]

HeldOut = Annotated[
    Path | None,
    typer.Option(
        metavar="FOLDER",
        help="Held-out patients; only if the training data is a folder",
        show_default="a tenth of the training data",
        rich_help_panel=DATA,
    ),
]
TrainedModalities = Annotated[
    str | None,
    typer.Option(
        metavar="LIST",
        help="Modalities of the prior in channel order, for example T1,FLAIR",
        show_default="all that every patient has",
        rich_help_panel=DATA,
    ),
]


def with_old_options(sampler: str, changes: Sequence[str] | None, preset: str | None) -> str:
    """Join the deprecated ``--set`` and ``--preset`` to a sampler's NAME:OPTION=VALUE,..."""
    added = [f"preset={preset}"] if preset else []
    added += changes or []
    if not added:
        return sampler
    return f"{sampler}{',' if '=' in sampler else ':'}{','.join(added)}"


def say_if_old(sampler: str, changes: Sequence[str] | None, preset: str | None) -> None:
    """Warn at the end of a run that ``--set`` and ``--preset`` are deprecated."""
    if changes or preset:
        typer.echo(
            f"--set and --preset are deprecated; write --sampler {sampler} instead", err=True
        )
