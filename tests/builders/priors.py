"""A tiny prior as a folder, as training leaves it."""

from __future__ import annotations

from pathlib import Path

import pytest
from any2all_core import DiffusionPrior
from any2all_core.testing import tiny_prior


@pytest.fixture(scope="session")
def prior_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained prior for 32 x 32 slices of the tiny patient's modalities."""
    folder = tmp_path_factory.mktemp("prior")
    tiny_prior().save(folder)
    return folder


@pytest.fixture
def prior(prior_folder: Path) -> DiffusionPrior:
    return DiffusionPrior.load(prior_folder, "float32")
