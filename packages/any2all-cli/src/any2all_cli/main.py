"""The entry point of ``any2all``: it finds the commands and reports a mistake in one line.

All commands, also those of this package, are found through the entry-point group
any2all.commands. Heavy modules are imported when a command is run, so that --help is fast.
"""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint, distributions, entry_points
from typing import Annotated

import typer

from any2all_cli.first_checks import CheckedCommand

INTERRUPTED = 130
COMMANDS = "any2all.commands"

app = typer.Typer(
    name="any2all",
    pretty_exceptions_enable=False,
)


def show_versions(asked: bool) -> None:
    """Print the version of each package of the project that is installed."""
    if asked:
        found = {d.name: d.version for d in distributions() if d.name.startswith("any2all")}
        for name, version in sorted(found.items()):
            print(f"{name} {version}")
        raise typer.Exit


@app.callback()
def any2all(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=show_versions, is_eager=True, help="Show all versions and exit."
        ),
    ] = False,
) -> None:
    """Draw a patient's missing images from any mix of images and raw measurements."""


def add_commands() -> None:
    """Register every installed command.

    If two packages offer a command of the same name, this package's command is taken, or else the
    first one found.
    """
    app.registered_commands.clear()
    entries = [entry for entry in entry_points(group=COMMANDS) if entry.dist is not None]
    there: dict[str, str] = {}
    for entry in sorted(entries, key=lambda e: (e.name, not _is_own(e), _package(e))):
        package = _package(entry)
        if entry.name in there:
            if there[entry.name] != package:
                _left_out(entry, f"{there[entry.name]} has a command of this name")
            continue
        there[entry.name] = package
        try:
            app.command(entry.name, cls=CheckedCommand)(entry.load())
        except Exception as error:
            _left_out(entry, str(error))


def _is_own(entry: EntryPoint) -> bool:
    return _package(entry) == "any2all-cli"


def _package(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist else entry.value


def _left_out(entry: EntryPoint, why: str) -> None:
    said = f"any2all: command {entry.name} of {_package(entry)} is left out: {why}"
    print(said, file=sys.stderr)


def main() -> None:
    """Run a command; a user's mistake becomes one line on stderr and exit status 2."""
    add_commands()
    try:
        code = app(sys.argv[1:] or ["--help"], prog_name="any2all", standalone_mode=False)
        if code == INTERRUPTED:
            print("any2all: interrupted", file=sys.stderr)
        sys.exit(code)
    except OSError as error:
        print(f"any2all: {error}", file=sys.stderr)
        mistakes = (FileExistsError, FileNotFoundError, IsADirectoryError, NotADirectoryError)
        sys.exit(2 if isinstance(error, (*mistakes, PermissionError)) else 1)
    except Exception as error:
        if hasattr(error, "format_message"):  # Typer's: the command line cannot be read
            said = f"{error.format_message().rstrip('.')}; see any2all [COMMAND] --help"
        elif type(error).__name__ == "UserError":
            said = str(error)
        else:
            raise
        print(f"any2all: {said}", file=sys.stderr)
        sys.exit(2)
