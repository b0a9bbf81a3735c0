"""Work that ends its process, as a crash in a library or a full memory does."""

from __future__ import annotations

import os
import signal
from pathlib import Path


def kills_its_process(path: Path) -> int:
    """Append a line to the file, then die while it has fewer lines than its name says."""
    with path.open("a") as file:
        file.write(f"{os.getpid()}\n")
    if len(path.read_text().splitlines()) < int(path.stem):
        os.kill(os.getpid(), signal.SIGKILL)
    return os.getpid()
