"""Output folders and files that are there whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from any2all_operators import UserError

DEFAULT = "any2all-out"


@dataclass(frozen=True)
class Folder:
    """Where to write (``path``), and what it is called once all is written (``final``)."""

    path: Path
    final: Path


def is_free(folder: Path) -> bool:
    """Whether a folder can be written to without anything being written over: new, or empty."""
    return not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))


def check_output(output: Path | None) -> None:
    """Raise UserError where results could not be written, before any work is done for them."""
    folder = default_output().parent if output is None else output.resolve()
    if output is not None and not is_free(folder):
        raise UserError(f"--output {output}: holds other results already; choose another folder")
    try:
        parent = folder if output is None else folder.parent
        parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=parent):
            pass
    except OSError as error:
        raise UserError(
            f"--output {output or folder}: {error.strerror}; choose another folder"
        ) from None


def default_output() -> Path:
    """What the default folders are called, without their number, in the current folder."""
    return Path(DEFAULT).resolve()


@contextmanager
def finished_folder(output: Path | None) -> Iterator[Folder]:
    """A temporary folder beside ``output`` that takes its name when the block ends without error.

    None: the first free of any2all-out-1, any2all-out-2 ..., taken at once. Raises UserError when
    ``output`` exists and is not an empty folder, or cannot be written.
    """
    try:
        final = _claim() if output is None else output.resolve()
        if not is_free(final):
            raise UserError(
                f"--output {output}: holds other results already; choose another folder"
            )
        final.parent.mkdir(parents=True, exist_ok=True)
        path = Path(tempfile.mkdtemp(prefix=f".{final.name}-", dir=final.parent))
    except OSError as error:
        raise UserError(f"--output {output}: {error.strerror}; choose another folder") from None
    try:
        yield Folder(path, final)
    except BaseException:
        shutil.rmtree(path, ignore_errors=True)
        if output is None:
            final.rmdir()
        raise
    umask = os.umask(0)
    os.umask(umask)
    path.chmod(0o777 & ~umask)
    try:
        os.replace(path, final)
    except OSError as error:
        raise UserError(
            f"--output {final}: {error.strerror} by now; the results are kept in {path}"
        ) from None


def _claim() -> Path:
    """The first free default name, as an empty folder, so that no other run takes it too."""
    for n in count(1):
        folder = Path(f"{DEFAULT}-{n}").resolve()
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        return folder
    raise AssertionError("count() does not end")


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    temporary = path.with_name(f".{path.name}-{os.getpid()}")
    temporary.write_text(text)
    os.replace(temporary, path)
