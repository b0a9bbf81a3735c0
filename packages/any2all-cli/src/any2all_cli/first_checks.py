"""Checks of a command line that need no heavy import, before any command runs.

A mistake that only names and folders show is reported at once. The check sees an option by its name
in the command's function: ``output``, ``sampler``, ``prior`` and ``modalities``. The commands check
everything again, because Python has the same functions.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from typer.core import TyperCommand

LEFT_OVER = ("draws", "log.jsonl", "tensorboard", "checkpoint.pt.part")
"""Files of a training that ended before its first checkpoint, which may be overwritten."""


class CheckedCommand(TyperCommand):
    """A command whose folder and names are checked before it runs."""

    def invoke(self, ctx: Any) -> Any:
        """Check the options, then run the command; ``ctx`` is the context of typer."""
        check_output_is_free(ctx.params)
        check_plugin_names(ctx.params)
        return super().invoke(ctx)


def check_output_is_free(options: Mapping[str, Any]) -> None:
    """Raise FileExistsError if ``output`` is a folder that holds other results.

    Only the first process of several checks, because it makes the folder for the others.
    """
    output, first = options.get("output"), int(os.environ.get("RANK", 0)) == 0
    if not output or not first or options.get("resume") or not Path(output).is_dir():
        return
    if any(path.name not in LEFT_OVER for path in Path(output).iterdir()):
        other = ", or --resume" if "resume" in options else ""
        if "simulate" in options:
            other += " if it is a run over many patients"
        raise FileExistsError(
            f"--output {output}: holds other results already; choose another folder{other}"
        )


def check_plugin_names(options: Mapping[str, Any]) -> None:
    """Raise UserError for the name of a sampler, prior or operator that is not installed.

    Only names that are written like a plugin's are checked, so a path is not.
    """
    for group, name in _named(options):
        found = entry_points(group=group)
        known = {entry.name for entry in found}
        known |= {f"{entry.dist.name}:{entry.name}" for entry in found if entry.dist}
        if name not in known and name.replace("-", "_").isidentifier() and not Path(name).exists():
            from any2all_core.registry import find_plugin

            find_plugin(group, name)


def _named(options: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    """(group, name) of the plugins that the options name."""
    samplers = options.get("sampler") or []
    for text in [samplers] if isinstance(samplers, str) else samplers:
        yield "any2all.samplers", _name(text.replace(",", ":"))
    if isinstance(options.get("prior"), str):
        yield "any2all.priors", options["prior"]
    for part in str(options.get("modalities") or "").split(","):
        operator = part.partition("=")[2]
        if operator:
            yield "any2all.operators", _name(operator)


def _name(text: str) -> str:
    """NAME of NAME:OPTION=VALUE:..., where NAME may be distribution:name."""
    return ":".join(part for part in text.split(":") if "=" not in part)
