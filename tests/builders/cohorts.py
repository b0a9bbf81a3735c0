"""Sources of a cohort, and what became of them."""

from __future__ import annotations

import time
from pathlib import Path

from any2all_data.store import CohortStore
from any2all_operators import UserError
from builders.patients import write_patient

TINY_RUN = [
    part
    for setting in ("steps=2", "batch_size=2", "channels=8+16", "norm_groups=2", "warmup=1")
    for part in ("--set", setting)
]


NATIVE = ("--spacing", "native", "--size", 32)


NAMES = ("Ada Müller", "Jürgen Nowak", "../../x", "P4")


def cohort_folder(folder: Path, names: tuple[str, ...] = NAMES, **kwargs: int) -> Path:
    for k, name in enumerate(names):
        write_patient(folder / name.replace("/", "_"), None, **{"seed": 10 * k, **kwargs})
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def wait_for(condition, seconds: float = 300.0) -> None:  # type: ignore[no-untyped-def]
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it never came true"
        time.sleep(0.02)


def complete(folder: Path) -> int:
    try:
        return len(CohortStore.open(str(folder)).patients())
    except (UserError, OSError, ValueError):
        return 0
