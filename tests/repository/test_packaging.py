"""Real wheels, as pip sees them."""

from __future__ import annotations

import ast
import email
import importlib
import json
import os
import pkgutil
import re
import subprocess
import sys
import tomllib
import traceback
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

pytestmark = pytest.mark.installing

PACKAGES = Path(__file__).parents[2] / "packages"
NAMES = (
    *("operators", "core", "samplers", "data", "app", "cli", "demo", "eval", "baselines"),
    *("view", "virtual", "mri"),
)
LICENCES = {
    "demo": "CC-BY-NC-SA-4.0 AND Apache-2.0",
    "view": "Apache-2.0 AND BSD-2-Clause AND MIT AND ISC",
}
"""Of what is not under Apache-2.0 alone."""


@pytest.fixture(scope="session")
def wheels(wheel_folder: Path) -> dict[str, Path]:
    return {name: next(wheel_folder.glob(f"any2all_{name}-*.whl")) for name in NAMES}


def test_each_wheel_is_whole(wheels: dict[str, Path]) -> None:
    for name, wheel in wheels.items():
        with zipfile.ZipFile(wheel) as archive:
            files = archive.namelist()
            assert f"any2all_{name}/py.typed" in files
            metadata = next(f for f in files if f.endswith(".dist-info/METADATA"))
            fields = email.message_from_bytes(archive.read(metadata))
            assert any(f.endswith("licenses/LICENSE") for f in files)
        assert fields["License-Expression"] == LICENCES.get(name, "Apache-2.0")
        requires = fields.get_all("Requires-Dist") or []
        for sibling in (text for text in requires if text.startswith("any2all")):
            assert ">=" in sibling
            assert "<" in sibling
    with zipfile.ZipFile(wheels["eval"]) as archive:
        names = set(archive.namelist())
        assert {"any2all_eval/page/report.html", "any2all_eval/studies/mixed.toml"} <= names
    with zipfile.ZipFile(wheels["view"]) as archive:
        names = set(archive.namelist())
        assert {"any2all_view/page/niivue.umd.js.gz", "any2all_view/page/view.html"} <= names
        assert any(
            name.endswith("page/NIIVUE-LICENSES.txt") and "dist-info" in name for name in names
        )
    with zipfile.ZipFile(wheels["demo"]) as archive:
        for prior in ("lgg", "virtual"):
            weights = archive.getinfo(f"any2all_demo/{prior}/diffusion_pytorch_model.safetensors")
            assert weights.file_size < 30e6


AT_RUN_TIME = {
    "any2all": {"any2all-cli", "any2all-samplers"},  # it brings the command, and samplers
    "any2all-app": {"any2all-samplers"},  # found through their entry points
    "any2all-operators": {"numpy"},  # by torch
}
"""{package: what it needs and never imports}"""


@pytest.mark.parametrize("folder", sorted(PACKAGES.iterdir()), ids=lambda folder: folder.name)
def test_what_is_imported_is_declared_and_nothing_else(folder: Path) -> None:
    """At the top of a module what is always there; within a function also an extra of its own."""
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    always = {named(text) for text in project.get("dependencies", [])}
    extras = {
        named(t) for texts in project.get("optional-dependencies", {}).values() for t in texts
    }
    used: set[str] = set()
    for path in (folder / "src").rglob("*.py"):
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            for module in imported_by(node):
                if module in sys.stdlib_module_names or module == folder.name.replace("-", "_"):
                    continue
                owners = {named(name) for name in OWNERS.get(module, [module])}
                used |= owners
                late = node not in tree.body
                assert owners & (always | extras if late else always), f"{path}: {module}"
    assert always - used == AT_RUN_TIME.get(folder.name, set())


OWNERS = packages_distributions()


def imported_by(node: ast.AST) -> list[str]:
    """The top-level modules of an import statement."""
    if isinstance(node, ast.Import):
        return [alias.name.split(".")[0] for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.module and not node.level:
        return [node.module.split(".")[0]]
    return []


def named(requirement: str) -> str:
    """The normalised name of a distribution, without extras and versions."""
    match = re.match(r"[\w.-]+", requirement)
    assert match
    return re.sub(r"[-_.]+", "-", match[0]).lower()


def test_a_package_goes_without_those_that_do_not_depend_on_it(
    wheels: dict[str, Path], tmp_path: Path
) -> None:
    """Each is imported with the wheels alone that its metadata names, directly or not."""
    depends: dict[str, set[str]] = {}
    for name in NAMES:
        project = tomllib.loads((PACKAGES / f"any2all-{name}/pyproject.toml").read_text())
        texts = project["project"]["dependencies"]
        depends[name] = {named(t).removeprefix("any2all-") for t in texts} & set(NAMES)
    for name in NAMES:
        needed = {name}
        while more := set().union(*(depends[n] for n in needed)) - needed:
            needed |= more
        process = os.fork()  # which has imported torch already
        if not process:
            try:
                import_all(name, [str(wheels[n]) for n in sorted(needed)], set(NAMES) - needed)
            except BaseException:
                (tmp_path / name).write_text(traceback.format_exc())
            os._exit(0)
        os.waitpid(process, 0)
        assert not (tmp_path / name).exists(), (tmp_path / name).read_text()


def import_all(name: str, path: list[str], others: set[str]) -> None:
    """Import every module of a package, with ``path`` first and without ``others``."""
    for module in [module for module in sys.modules if module.startswith("any2all")]:
        del sys.modules[module]
    sys.path[:0] = path
    sys.modules.update({f"any2all_{other}": None for other in others})  # type: ignore[misc]
    package = importlib.import_module(f"any2all_{name}")
    assert ".whl" in str(package.__file__), package.__file__
    for found in pkgutil.iter_modules(package.__path__, f"any2all_{name}."):
        if not found.name.endswith("__main__"):
            importlib.import_module(found.name)


def test_operators_alone_bring_torch_and_numpy_only(tmp_path: Path) -> None:
    """As pip resolves them for an empty environment."""
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    report = tmp_path / "report.json"
    command: list[str | Path] = [
        tmp_path / "venv/bin/python",
        "-m",
        "pip",
        "install",
        "-q",
        "--dry-run",
    ]
    command += ["--report", report, PACKAGES / "any2all-operators", "torch==2.13.0"]
    subprocess.run(command, check=True, capture_output=True)
    installed = json.loads(report.read_text())["install"]
    chosen = {item["metadata"]["name"]: item["metadata"] for item in installed}
    assert [name for name in chosen if name.startswith("any2all")] == ["any2all-operators"]
    asked = {text.split(">")[0] for text in chosen["any2all-operators"]["requires_dist"]}
    assert asked == {"torch", "numpy"}


def test_operators_import_without_any_sibling(wheels: dict[str, Path]) -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(wheels['operators'])!r}); import any2all_operators; "
        "assert '.whl' in any2all_operators.__file__; "
        "others = [m for m in sys.modules if m.startswith('any2all_') "
        "and not m.startswith('any2all_operators')]; assert not others, others; "
        "assert 'sigpy' not in sys.modules and 'diffusers' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_help_imports_nothing_heavy() -> None:
    """What makes --help quick, rather than its time on this machine."""
    code = (
        "import sys; sys.argv = ['any2all', '--help']\n"
        "from any2all_cli.main import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'numpy', 'diffusers', 'nibabel', 'sigpy', 'any2all_core'}\n"
        "found = heavy & set(sys.modules)\n"
        "assert not found, found\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
