"""Gather the pages of the site in one folder: docs/, what its pages link to, cards, notebooks.

    python docs/assemble.py build/docs [--notebooks build/notebooks]

A page of docs/ may link to any file or folder of the repository, as GitHub shows it. The site has
a page for each such target, below source/. ``--notebooks`` is a folder of notebooks that were run;
their pages show what came out. Without it, a notebook's page shows its text and code alone.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import jupytext
import nbformat
from any2all_app.model_card import Publication, model_card
from any2all_core.named_priors import prior_folder
from any2all_core.prior import weights_hash
from any2all_core.prior_settings import read_settings
from nbconvert import MarkdownExporter

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
LINK = re.compile(r"(\]\()(?![a-z]+:|#)([^)#\s]+)")
SHOWN = {".py": "python", ".toml": "toml", "": "text", ".txt": "text"}
"""Files that get a page below source/, and their languages."""
COPIED = (".png", ".webp", ".css")
CARDS = (
    Publication(
        "OWNER/virtual",
        "apache-2.0",
        "Simulated people, drawn on the ICBM-152 maps. No such people exist.",
    ),
    Publication(
        "OWNER/lgg",
        "cc-by-nc-sa-4.0",
        "70 patients with glioma of *LGG MRI segmentation* (Buda 2019), CC BY-NC-SA 4.0.",
    ),
)


class Site:
    """Pages under ``output``; :meth:`page_of` asks for one, :meth:`finish` writes all asked for."""

    def __init__(self, output: Path) -> None:
        self.output = output
        self.asked: list[Path] = []

    def page_of(self, target: Path) -> Path:
        """Where the site has a file or folder of the repository, relative to ``output``."""
        if target.parent == DOCS / "notebooks":
            return target.relative_to(DOCS).with_suffix(".md")
        if target.is_relative_to(DOCS) and target.suffix in (".md", *COPIED):
            return target.relative_to(DOCS)
        if target.name == "README.md" and target.parent != ROOT:
            target = target.parent
        if target not in self.asked:
            self.asked.append(target)
        inside = target.relative_to(ROOT)
        return Path("source") / (inside if target.suffix == ".md" else f"{inside}.md")

    def write(self, page: Path, source: Path, text: str) -> None:
        """Write a page whose links are relative to the file ``source``."""

        def moved(found: re.Match[str]) -> str:
            target = (source.parent / found[2]).resolve()
            if not target.exists() or not target.is_relative_to(ROOT):
                return found[0]  # the build says so
            return found[1] + os.path.relpath(self.page_of(target), page.parent)

        path = self.output / page
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(LINK.sub(moved, text))

    def finish(self) -> None:
        """The pages of source/, and of what these link to."""
        for target in self.asked:  # which grows meanwhile
            self.write(self.page_of(target), *source_page(target))


def source_page(target: Path) -> tuple[Path, str]:
    """(the file that its links are relative to, the page) of a file or folder."""
    if target.suffix == ".md":
        return target, target.read_text()
    readme = target / "README.md"
    files = [target] if target.is_file() else sorted(target.iterdir())
    parts = [readme.read_text() if readme.exists() else f"# {target.relative_to(ROOT)}"]
    for file in files:
        if file.is_file() and file.suffix in SHOWN and file.name not in ("__init__.py", "LICENSE"):
            heading = "" if target.is_file() else f"## {file.name}\n\n"
            code = file.read_text().rstrip()
            parts.append(f"{heading}````{SHOWN[file.suffix]}\n{code}\n````")
        elif file.is_dir() and any(file.glob("*.py")):
            parts.append(f"- [{file.name}]({file.name})")
    return (target / "README.md" if target.is_dir() else target), "\n\n".join(parts) + "\n"


def notebook_pages(executed: Path | None) -> Iterator[tuple[Path, str, dict[str, bytes]]]:
    """(notebook, its page, {name: picture}) of each file of docs/notebooks."""
    for source in sorted((DOCS / "notebooks").glob("*.py")):
        if executed is None:
            notebook = jupytext.read(source)
        else:
            notebook = nbformat.read(executed / f"{source.stem}.ipynb", 4)
            for cell in notebook.cells:  # warnings name the folders of this machine
                shown = [out for out in cell.get("outputs", []) if out.get("name") != "stderr"]
                cell.update({"outputs": shown} if cell.cell_type == "code" else {})
        text, resources = MarkdownExporter().from_notebook_node(
            notebook, {"output_files_dir": f"{source.stem}_files"}
        )
        yield source, text.replace("![png](", "![figure]("), resources["outputs"]


def card_pages() -> Iterator[tuple[str, str]]:
    """(name, model card) of each shipped prior, as ``any2all push`` writes it."""
    for said in CARDS:
        name = said.repository.partition("/")[2]
        folder = prior_folder(name)
        card = model_card(read_settings(folder), weights_hash(folder), said)
        text = card.split("---\n", 2)[2]  # without the front matter of the Hub
        yield name, text.replace(f"hf:{said.repository}", name)


def assemble(output: Path, executed: Path | None) -> None:
    """Write all pages and pictures under ``output``, anew."""
    shutil.rmtree(output, ignore_errors=True)
    site = Site(output)
    for file in sorted(DOCS.rglob("*")):
        page = file.relative_to(DOCS)
        if file.suffix == ".md":
            site.write(page, file, file.read_text())
        elif file.suffix in COPIED:
            (output / page).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, output / page)
    for source, text, pictures in notebook_pages(executed):
        site.write(source.relative_to(DOCS).with_suffix(".md"), source, text)
        for name, picture in pictures.items():
            (output / "notebooks" / name).parent.mkdir(exist_ok=True)
            (output / "notebooks" / name).write_bytes(picture)
    for name, text in card_pages():
        (output / "model-cards").mkdir(exist_ok=True)
        (output / "model-cards" / f"{name}.md").write_text(text)
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md"):
        site.page_of(page)
    site.finish()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path)
    parser.add_argument("--notebooks", type=Path)
    options = parser.parse_args()
    assemble(options.output, options.notebooks)


if __name__ == "__main__":
    main()
