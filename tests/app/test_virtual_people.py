"""Virtual people are drawn by a package of their own, which need not be there."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from any2all_app import prepare_virtual
from any2all_app.finding import Preparing
from any2all_operators import UserError


def test_what_to_install_is_said_where_the_package_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "any2all_virtual", None)
    with pytest.raises(UserError, match="--virtual 2 needs any2all-virtual; run pip install"):
        prepare_virtual(str(tmp_path / "cohort"), 2, Preparing())
    assert not (tmp_path / "cohort").exists()
