"""The files of a tree: which are looked at, and which lack their content."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

NIFTI = (".nii", ".nii.gz")
ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".7z", ".rar")
OTHER_IMAGES = (".mha", ".mhd", ".nrrd", ".mgz", ".mgh", ".img")
POINTER = 1024
"""Bytes that a file is at most which stands for another one."""
NO_FILE = "link without its file; run datalad get (git annex get), or copy the file itself"


def walk(folder: Path) -> Iterator[Path]:
    """Files and broken links of a tree, sorted; no folder twice.

    Hidden files and folders are left out, and __MACOSX. A link to a folder is followed where it
    lies directly in ``folder``, as a patient's folder may.
    """
    seen: set[str] = set()
    linked = sorted(p for p in folder.iterdir() if p.is_symlink() and p.is_dir() and _shown(p.name))
    for start in (folder, *linked):
        for parent, folders, names in os.walk(start):
            real = os.path.realpath(parent)
            if real in seen:
                folders.clear()
                continue
            seen.add(real)
            folders[:] = sorted(filter(_shown, folders))
            for name in sorted(filter(_shown, names)):
                path = Path(parent, name)
                if path.is_file() or (path.is_symlink() and not path.exists()):
                    yield path


def tree(folder: Path) -> Iterator[Path]:
    """Regular files of a tree, sorted; links only where they stay inside."""
    root = folder.resolve()
    for path in walk(folder):
        if path.is_file() and not leads_out(path, root):
            yield path


def leads_out(path: Path, root: Path) -> bool:
    """Whether a link, or a folder on the way to it, leads out of ``root``, which is resolved."""
    return not path.resolve().is_relative_to(root)


def is_nifti(path: Path) -> bool:
    return path.name.lower().endswith(NIFTI)


def absent(path: Path) -> str:
    """Why a file has no content and what to do; "" where it has some.

    A broken link; a small text that git-annex, Git LFS or a checkout without links puts in the
    file's place; nothing at all.
    """
    if path.is_symlink() and not path.exists():
        return NO_FILE
    size = path.stat().st_size
    if not size:
        return "its file is empty; copy it again"
    if size > POINTER:
        return ""
    start = path.read_bytes()
    if start.startswith(b"version https://git-lfs"):
        return "Git LFS pointer without its file; run git lfs pull"
    return NO_FILE if b"annex/objects/" in start and b"\0" not in start else ""


def unread(path: Path) -> str:
    """What to do with a file of a kind that is not read; "" for any other."""
    name = path.name.lower()
    if name.endswith(ARCHIVES):
        return "an archive, which is not looked into; unpack it first"
    if name.endswith(OTHER_IMAGES):
        return "an image of a format that is not read; convert it to NIfTI"
    return ""


def _shown(name: str) -> bool:
    hidden = name.startswith(".") and not name.startswith("..")
    return not hidden and name != "__MACOSX"
