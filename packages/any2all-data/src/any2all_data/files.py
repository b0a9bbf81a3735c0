"""Walk the files of a tree, and find files without content."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

NIFTI = (".nii", ".nii.gz")
ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".7z", ".rar")
OTHER_IMAGES = (".mha", ".mhd", ".nrrd", ".mgz", ".mgh", ".img")
POINTER = 1024
"""Largest size in bytes of a file that only points to another one."""
NO_FILE = "link without its file; run datalad get (git annex get), or copy the file itself"


def walk(folder: Path) -> Iterator[Path]:
    """Yield the files and broken links of a tree, sorted. No folder is walked twice.

    Hidden files and folders and __MACOSX are left out. A link to a folder is followed only if it
    lies directly in ``folder``, where a patient's folder may be a link.
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
    """Yield the files of a tree, sorted. Links out of the tree are left out."""
    root = folder.resolve()
    for path in walk(folder):
        if path.is_file() and not leads_out(path, root):
            yield path


def leads_out(path: Path, root: Path) -> bool:
    """Whether links on the path lead out of ``root``, which is already resolved."""
    return not path.resolve().is_relative_to(root)


def is_nifti(path: Path) -> bool:
    return path.name.lower().endswith(NIFTI)


def absent(path: Path) -> str:
    """Say why a file has no content and what to do about it; "" if it has content.

    The file may be a broken link, it may be empty, or it may be a small text that git-annex,
    Git LFS or a checkout without links has put in its place.
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
    """Say what to do with a file of an unsupported format; "" for any other file."""
    name = path.name.lower()
    if name.endswith(ARCHIVES):
        return "archives are not read; unpack them first"
    if name.endswith(OTHER_IMAGES):
        return "images of this format are not read; convert them to NIfTI"
    return ""


def _shown(name: str) -> bool:
    hidden = name.startswith(".") and not name.startswith("..")
    return not hidden and name != "__MACOSX"
