"""``any2all cohort``: its options."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def cohort(
    url: Annotated[str, typer.Argument(metavar="COHORT", help="Made by any2all prepare")],
    qc: Annotated[
        Path | None, typer.Option(help="New folder for contact sheets and histograms")
    ] = None,
    accept: Annotated[
        list[str] | None, typer.Option(help="PATIENT:MODALITY that was set aside and is good")
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table")] = False,
) -> None:
    """Show who is in a cohort and how well their images fit."""
    from any2all_cli.cohort import show_cohort

    show_cohort(url, qc, accept or [], json_)
