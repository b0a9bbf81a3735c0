"""What keeps the code readable: few arguments, few of them by position, and short files."""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ROOT / "packages"
HELD = [*sorted(PACKAGES.iterdir()), ROOT / "bench", ROOT / "examples"]
MOST_ARGUMENTS = 8
MOST_BY_POSITION = 4
MOST_LINES = 300

Function = ast.FunctionDef | ast.AsyncFunctionDef


def commands(package: Path) -> set[tuple[str, str]]:
    """(module, function) of the package's commands: Typer makes options of their arguments."""
    if not (package / "pyproject.toml").exists():
        return set()
    project = tomllib.loads((package / "pyproject.toml").read_text())["project"]
    entries = project.get("entry-points", {}).get("any2all.commands", {}).values()
    return {(module, name) for module, _, name in (entry.partition(":") for entry in entries)}


def functions(node: ast.AST, in_class: bool = False) -> Iterator[tuple[Function, bool]]:
    """Every function, however deep, and whether it is given self or cls first."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, Function):
            is_static = any(ast.unparse(d) == "staticmethod" for d in child.decorator_list)
            yield child, in_class and not is_static
        yield from functions(child, isinstance(child, ast.ClassDef))


def too_many(function: Function, is_method: bool) -> str:
    """What is wrong with the arguments of a function, self and cls aside; "" if nothing is."""
    by_position = len(function.args.posonlyargs) + len(function.args.args) - is_method
    arguments = by_position + len(function.args.kwonlyargs)
    if arguments > MOST_ARGUMENTS:
        return f"{arguments} arguments, expected at most {MOST_ARGUMENTS}; make a value of some"
    if by_position > MOST_BY_POSITION:
        return f"{by_position} by position, expected at most {MOST_BY_POSITION}; put a * before"
    return ""


@pytest.mark.parametrize("folder", HELD, ids=lambda folder: folder.name)
def test_functions_take_few_arguments_and_files_are_short(folder: Path) -> None:
    allowed, wrong = commands(folder), list[str]()
    source = folder / "src" if (folder / "src").is_dir() else folder
    files = sorted(source.rglob("*.py"))
    assert files
    for path in files:
        text, where = path.read_text(), path.relative_to(source)
        module = ".".join(where.with_suffix("").parts)
        if (lines := len(text.splitlines())) > MOST_LINES:
            wrong.append(f"{where}: {lines} lines, expected at most {MOST_LINES}; split it by idea")
        for function, is_method in functions(ast.parse(text)):
            said = too_many(function, is_method)
            if said and (module, function.name) not in allowed:
                wrong.append(f"{where}:{function.lineno} {function.name}: {said}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("def f(a, b, c, d, *, e, g, h, i): ...", ""),
        ("def f(a, b, c, d, e): ...", "5 by position"),
        ("def f(a, /, b, c, d, *, e, g, h, i, j): ...", "9 arguments"),
        ("class A:\n def f(self, a, b, c, d): ...", ""),
        ("class A:\n def f(self, a, b, c, d, e): ...", "5 by position"),
        ("class A:\n @staticmethod\n def f(a, b, c, d, e): ...", "5 by position"),
        ("def f():\n def g(a, b, c, d, e): ...", "5 by position"),
    ],
)
def test_arguments_are_counted(code: str, said: str) -> None:
    found = [too_many(*one) for one in functions(ast.parse(code))]
    assert max(found).startswith(said)
    assert bool(max(found)) == bool(said)


@pytest.mark.parametrize("folder", [ROOT / "tests", ROOT / "docs"], ids=lambda folder: folder.name)
def test_files_of_tests_and_docs_are_short_too(folder: Path) -> None:
    lines = {path: len(path.read_text().splitlines()) for path in folder.rglob("*.py")}
    assert {str(path): count for path, count in lines.items() if count > MOST_LINES} == {}
