"""Share a run over many patients among several processes."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from any2all_operators import UserError

from any2all_app.folders import is_free, write_text

RUN = "run.json"


def share() -> tuple[int, int]:
    """Return this process' number and the number of processes.

    ``torchrun`` and ``accelerate launch`` set both in the environment.
    """
    return int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))


def begin(output: Path, identity: Mapping[str, Any], resume: bool) -> tuple[int, int]:
    """Open the folder of a run. Return this process' number and the number of processes.

    The first process checks the folder. Raises UserError if it holds other files, or a run with
    other settings.
    """
    rank, processes = share()
    if rank == 0:
        _claim(output, json.loads(json.dumps(dict(identity), default=str)), resume)
    if processes > 1:
        wait_for_all()
    return rank, processes


def wait_for_all() -> None:
    """Wait until every process of the run has come to this point, at most 30 days."""
    from accelerate import PartialState

    PartialState(cpu=True, timeout=timedelta(days=30)).wait_for_everyone()


def _claim(output: Path, identity: Mapping[str, Any], resume: bool) -> None:
    path = output / RUN
    if resume:
        try:
            was = json.loads(path.read_text())
        except (OSError, ValueError):
            raise UserError(f"--resume: no run in {output}; start without it") from None
        for name, value in identity.items():
            if was.get(name) != value:
                raise UserError(
                    f"--resume: the run in {output} has {name} = {was.get(name)}, not {value}"
                )
        return
    if not is_free(output):
        raise UserError(
            f"--output {output}: holds other results already; choose another folder, or --resume"
        )
    output.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(identity, indent=2) + "\n")
