"""A plugin as a distribution on the path."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Install = Callable[..., None]

SAMPLER = """
from dataclasses import dataclass

@dataclass(frozen=True)
class Grey:
    "Half grey, whatever the data."
    steps: int = 1
    level: float = 0.5

    def __call__(self, prior, measurement, noise, progress=None):
        return 0 * noise() + self.level
"""


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Lay down a distribution: its module and its metadata, on the import path."""
    monkeypatch.syspath_prepend(tmp_path)

    def place(dist: str, name: str, code: str, group: str = "any2all.samplers") -> None:
        module = dist.replace("-", "_")
        (tmp_path / f"{module}.py").write_text(code)
        info = tmp_path / f"{module}-1.2.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {dist}\nVersion: 1.2\n")
        (info / "entry_points.txt").write_text(f"[{group}]\n{name} = {module}:Grey\n")
        monkeypatch.delitem(sys.modules, module, raising=False)

    return place
