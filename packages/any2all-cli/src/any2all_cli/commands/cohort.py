"""``any2all cohort``: its options."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def cohort(
    url: Annotated[str, typer.Argument(metavar="COHORT", help="Cohort made by any2all prepare")],
    qc: Annotated[
        Path | None,
        typer.Option(help="Write contact sheets and histograms into this new folder"),
    ] = None,
    accept: Annotated[
        list[str] | None,
        typer.Option(help="Use PATIENT:MODALITY, which was set aside; may be repeated"),
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table")] = False,
) -> None:
    """List the patients of a cohort and the quality of their registration."""
    from any2all_cli.cohort import show_cohort

    show_cohort(url, qc, accept or [], json_)
