"""Build a package, check what was built, and say how it is tagged and uploaded.

    python release.py any2all-core [any2all-operators ...]

Nothing is uploaded and no tag is made. The version has to be in CHANGELOG.md, and the tree clean.
Needs ``pip install hatch twine``.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent
PACKAGES = sorted(folder.name for folder in (ROOT / "packages").iterdir())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("packages", nargs="+", choices=PACKAGES, metavar="PACKAGE")
    parser.add_argument("--output", type=Path, help="folder for what is built [default: dist]")
    options = parser.parse_args()
    output = options.output or ROOT / "dist"
    if run("git", "status", "--porcelain").strip():
        sys.exit("release: the tree has changes; commit them first")
    for name in options.packages:
        folder = ROOT / "packages" / name
        version = version_of(folder)
        if f"## {version}" not in (folder / "CHANGELOG.md").read_text():
            sys.exit(f"release: CHANGELOG.md of {name} does not say what is new in {version}")
        tag = f"{name}-v{version}"
        if run("git", "tag", "--list", tag).strip():
            sys.exit(f"release: {tag} is there already; raise the version in {name}")
        with tempfile.TemporaryDirectory() as built:
            run(sys.executable, "-m", "hatch", "build", built, cwd=folder)
            files = sorted(Path(built).iterdir())
            print(run(sys.executable, "-m", "twine", "check", "--strict", *map(str, files)).strip())
            output.mkdir(parents=True, exist_ok=True)
            for file in files:
                shutil.move(file, output / file.name)
        print(f"git tag {tag} && git push origin {tag}")
        print(f"twine upload {output / name.replace('-', '_')}-{version}*")


def version_of(folder: Path) -> str:
    """That of a package's ``__init__.py``."""
    module = folder.name.replace("-", "_")
    text = (folder / "src" / module / "__init__.py").read_text()
    match = re.search(r'^__version__ = "([^"]+)"', text, re.M)
    assert match, module
    return match[1]


def run(*command: str, cwd: Path = ROOT) -> str:
    """What a command prints. Ends this one if it fails."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"release: {' '.join(command)} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


if __name__ == "__main__":
    main()
