"""``any2all plugins``: its options."""

from __future__ import annotations

from typing import Annotated

import typer


def plugins(
    name: Annotated[
        str | None, typer.Argument(help="Tell the options of this one", show_default="list all")
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table")] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Load and test each; exit 1 if one fails")
    ] = False,
) -> None:
    """List the installed operators, samplers and priors, tell of one, or test them."""
    from any2all_cli.plugins import list_or_check

    if not list_or_check(name, json_, check):
        raise typer.Exit(1)
