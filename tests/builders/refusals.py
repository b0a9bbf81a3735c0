"""The refusal of a file, as one line."""

from __future__ import annotations

from pathlib import Path

import pytest
from any2all_data.kinds import kind_of
from any2all_data.nifti import load_nifti
from any2all_operators import UserError


def refused(path: Path, modality: str) -> str:
    with pytest.raises(UserError) as caught:
        load_nifti(path, "it", kind_of(modality))
    assert "\n" not in str(caught.value)
    return str(caught.value)
