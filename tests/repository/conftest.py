"""Wheels of all packages and examples, built once for all test processes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def wheel_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of one wheel for each package and each example, built by pip."""
    base = tmp_path_factory.getbasetemp()
    parallel = "PYTEST_XDIST_WORKER" in os.environ
    folder = (base.parent if parallel else base) / "wheels"
    done = folder / "done"
    try:
        folder.mkdir()
    except FileExistsError:  # another process builds them
        until = time.monotonic() + 300
        while not done.exists():
            assert time.monotonic() < until, f"the wheels in {folder} were never finished"
            time.sleep(0.2)
        return folder
    folders = [*(ROOT / "packages").iterdir(), *(ROOT / "examples/plugins").iterdir()]
    sources = sorted(str(path) for path in folders if (path / "pyproject.toml").exists())
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "-w", str(folder), *sources], check=True, capture_output=True)
    done.touch()
    return folder
