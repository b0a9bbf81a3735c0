"""The tests of a package need that package and those below it, and nothing above."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
OPERATORS = {"any2all_operators"}
CORE = OPERATORS | {"any2all_core"}
SAMPLERS = CORE | {"any2all_samplers"}
MRI = CORE | {"any2all_mri"}  # the phantom is the core's
VIRTUAL = OPERATORS | {"any2all_virtual"}
DATA = CORE | MRI | VIRTUAL | {"any2all_data"}  # registers virtual people
BASELINES = MRI | {"any2all_baselines"}
MAY_IMPORT = {
    "operators": OPERATORS,
    "core": CORE,
    "samplers": SAMPLERS,
    "virtual": VIRTUAL,
    "mri": MRI,
    "data": DATA,
    "baselines": BASELINES,
}


def imported(path: Path) -> set[str]:
    """Packages of this project that a file imports, by itself or through a builder."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        for name in names:
            first, *rest = name.split(".")
            if first == "builders":
                found |= imported(TESTS.joinpath("builders", *rest).with_suffix(".py"))
            elif first.startswith("any2all"):
                found.add(first)
    return found


@pytest.mark.parametrize("folder", MAY_IMPORT)
def test_tests_import_nothing_from_above(folder: str) -> None:
    files = sorted((TESTS / folder).glob("*.py"))
    assert files
    for path in [TESTS / "conftest.py", *files]:
        beyond = imported(path) - MAY_IMPORT[folder]
        assert not beyond, f"{path.relative_to(TESTS)} imports {', '.join(sorted(beyond))}"
