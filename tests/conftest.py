"""Shared by the tests: small real objects, and the command line as a real process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # the tests share the cores among themselves

import nibabel as nib
import numpy as np
import pytest
import torch
from any2all_cli.main import main
from any2all_core import DiffusionPrior, PriorSettings
from any2all_core.network import build_prior
from any2all_core.recipe import Recipe

torch.set_num_threads(1)

TINY = Recipe(
    channels=(8, 16),
    blocks=1,
    attention_levels=1,
    norm_groups=2,
    steps=6,
    batch_size=4,
    warmup=2,
)
MODALITIES = ("T1", "FLAIR", "T1Gd")

LONGEST = (
    *("test_plugin_packages", "test_evaluate", "test_training", "test_distributed"),
    *("test_dicom", "test_cohort", "test_registration", "test_cli", "test_raw_defects"),
)
"""Files that take longest, which begin first, so that no process waits for another in the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    order = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.path.stem, len(order)))


Run = Callable[..., "subprocess.CompletedProcess[str]"]


def phantom(size: int = 32, depth: int = 4, seed: int = 0) -> np.ndarray:
    """A smooth head-like volume (x, y, z), 0 outside an ellipse, up to about 200 inside."""
    rng = np.random.default_rng(seed)
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in (size, size, depth)), indexing="ij")
    inside = (x / 0.7) ** 2 + (y / 0.85) ** 2 < 1
    waves = 1 + 0.3 * np.sin(4 * x + rng.uniform(0, 6)) * np.cos(5 * y + z + rng.uniform(0, 6))
    return (150 * inside * waves).astype(np.float32)


def write_patient(folder: Path, affine: np.ndarray | None = None, **kwargs: int) -> Path:
    folder.mkdir(parents=True)
    affine = np.diag([-1.5, -1.5, 4.0, 1.0]) if affine is None else affine
    for k, name in enumerate(MODALITIES):
        volume = phantom(**{"seed": k, **kwargs})
        nib.save(nib.Nifti1Image(volume, affine), folder / f"{name}.nii.gz")
    return folder


@pytest.fixture
def patient(tmp_path: Path) -> Path:
    return write_patient(tmp_path / "patient")


@pytest.fixture(scope="session")
def prior_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained prior for 32 x 32 slices."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("prior")
    settings = PriorSettings(modalities=MODALITIES, image_size=(32, 32), prediction="v", patch=2)
    build_prior(TINY, settings).save(folder)
    return folder


@pytest.fixture
def prior(prior_folder: Path) -> DiffusionPrior:
    return DiffusionPrior.load(prior_folder, "float32")


@pytest.fixture
def any2all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Run:
    """Run the command's entry point in a folder of its own; what it printed and its exit code."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = ["any2all", *map(str, arguments)]
        monkeypatch.setattr(sys, "argv", command)
        capfd.readouterr()
        try:
            main()
            code = 0
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
        out, err = capfd.readouterr()
        return subprocess.CompletedProcess(command, code, out, err)

    return run


@pytest.fixture
def process(tmp_path: Path) -> Run:
    """Run the installed command as a process of its own, in a folder of its own."""

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "any2all_cli", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=300)

    return run
