"""What plugins import from any2all_data and is any2all_mri's."""

from __future__ import annotations

import any2all_data
import any2all_mri
import pytest


@pytest.mark.parametrize("name", ["KSpace", "RawKSpace", "birdcage_maps", "calibrate", "read_raw"])
def test_names_of_mr_physics_are_still_there(name: str) -> None:
    assert getattr(any2all_data, name) is getattr(any2all_mri, name)
