"""Output folders that are there whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from any2all_operators import UserError

DEFAULT = "any2all-out"


@dataclass(frozen=True)
class Folder:
    """Where to write (``path``), and what it is called once all is written (``final``)."""

    path: Path
    final: Path


@contextmanager
def finished_folder(output: Path | None) -> Iterator[Folder]:
    """A temporary folder beside ``output`` that takes its name when the block ends without error.

    None: the first free of any2all-out-1, any2all-out-2 ... Raises UserError at once when
    ``output`` exists and is not an empty folder.
    """
    final = output or next(p for p in (Path(f"{DEFAULT}-{n}") for n in count(1)) if not p.exists())
    if final.exists() and not (final.is_dir() and not any(final.iterdir())):
        raise UserError(
            f"--output {final}: holds other results already; choose another folder or remove it"
        )
    try:
        final.absolute().parent.mkdir(parents=True, exist_ok=True)
        path = Path(tempfile.mkdtemp(prefix=f".{final.name}-", dir=final.absolute().parent))
    except OSError as error:
        raise UserError(f"--output {final}: {error.strerror}; choose another folder") from None
    try:
        yield Folder(path, final)
        path.chmod(0o755)
        os.replace(path, final)
    finally:
        shutil.rmtree(path, ignore_errors=True)
