"""The pages of the documentation: all of them are in the navigation, and all exports are shown."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
CONFIG = tomllib.loads((ROOT / "zensical.toml").read_text())
LINK = re.compile(r"\]\((?!https?:|#)([^)#\s]+)")
ELSEWHERE = {
    "any2all": ("any2all_core", "any2all_operators", "any2all_data"),
    "any2all_core": (),
    "any2all_core.testing": (),
    "any2all_data": ("any2all_mri",),
    "any2all_mri": (),
    "any2all_operators": (),
    "any2all_samplers": (),
    "any2all_virtual": (),
}
"""{package: those whose pages have the names that it repeats}."""


def pages(entry: Any) -> Iterator[str]:
    """The pages of a part of the navigation: a path, or {title: part}, or a list of these."""
    if isinstance(entry, str):
        yield entry
    else:
        for part in entry.values() if isinstance(entry, dict) else entry:
            yield from pages(part)


def api_page(package: str) -> str:
    return (DOCS / f"api/{package.replace('any2all_core.testing', 'testing')}.md").read_text()


def test_every_page_is_in_the_navigation() -> None:
    shown = set(pages(CONFIG["project"]["nav"]))
    written = {str(p.relative_to(DOCS)) for p in DOCS.rglob("*.md")}
    notebooks = {f"notebooks/{p.stem}.md" for p in (DOCS / "notebooks").glob("*.py")}
    assert written | notebooks == {page for page in shown if not made(page)}


def made(page: str) -> bool:
    """Whether a page is made when the site is."""
    return page.startswith("source/") or page in ("model-cards/virtual.md", "model-cards/lgg.md")


@pytest.mark.parametrize("package", ELSEWHERE)
def test_every_export_is_on_its_page(package: str) -> None:
    text = api_page(package)
    listed = {name.rpartition(".")[2] for name in re.findall(r"(?m)^::: (\S+)$", text)}
    exported = set(importlib.import_module(package).__all__)
    repeated = {
        name
        for other in ELSEWHERE[package]
        for name in set(importlib.import_module(other).__all__) & exported
    }
    optional = {"Evaluation", "evaluate"} if package == "any2all" else set()
    assert listed == exported - repeated | optional
    for name in repeated - listed:
        assert f"`{name}`" in text, f"{name}: the page does not say where it is"


def test_every_link_leads_somewhere() -> None:
    for page in [*DOCS.rglob("*.md"), *(DOCS / "notebooks").glob("*.py")]:
        for link in LINK.findall(page.read_text()):
            assert (page.parent / link).exists(), f"{page.relative_to(ROOT)}: {link}"


def test_the_pictures_of_the_gallery_are_few_small_and_have_a_script() -> None:
    pictures = sorted((DOCS / "gallery").glob("*.webp"))
    assert 0 < len(pictures) <= 8
    page = (DOCS / "gallery/index.md").read_text()
    for picture in pictures:
        assert picture.stat().st_size < 150_000
        assert picture.with_suffix(".py").exists()
        assert f"]({picture.name})" in page
        assert f"]({picture.stem}.py)" in page


@pytest.mark.slow
def test_a_script_of_the_gallery_makes_its_picture(tmp_path: Path) -> None:
    code = "import sys, pathlib, one_call; one_call.draw(pathlib.Path(sys.argv[1]))"
    subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", code, tmp_path / "made.webp"],
        cwd=DOCS / "gallery",
        check=True,
    )
    made, kept = (
        np.asarray(Image.open(path).convert("L"), float)
        for path in (tmp_path / "made.webp", DOCS / "gallery/one_call.webp")
    )
    assert made.shape == kept.shape
    assert np.abs(made - kept).mean() < 3  # grey levels, of 256: fonts and processors differ


@pytest.mark.slow
def test_the_pages_are_gathered(tmp_path: Path) -> None:
    """Links out of docs/ lead to pages that are made; model cards and notebooks are there."""
    site = tmp_path / "docs"
    subprocess.run([sys.executable, DOCS / "assemble.py", site], check=True)
    for shown in pages(CONFIG["project"]["nav"]):
        assert (site / shown).exists(), shown
    for page in site.rglob("*.md"):
        text = re.sub(r"(?s)(`{3,}).*?\1", "", page.read_text())  # without code
        for link in LINK.findall(text):
            assert (page.parent / link).exists(), f"{page.relative_to(site)}: {link}"
    assert "Not for clinical use" in (site / "model-cards/lgg.md").read_text()
    assert (
        "class Deblur(Operator):"
        in (site / "source/examples/plugins/any2all-deblur.md").read_text()
    )
