"""``any2all plugins``: its options."""

from __future__ import annotations

from typing import Annotated

import typer


def plugins(
    name: Annotated[
        str | None,
        typer.Argument(help="Explain this plugin and its options", show_default="list all"),
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table")] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Load and test every plugin; exit 1 if one fails")
    ] = False,
) -> None:
    """List, explain or test the installed operators, samplers, priors and other plugins."""
    from any2all_cli.plugins import list_or_check

    if not list_or_check(name, json_, check):
        raise typer.Exit(1)
