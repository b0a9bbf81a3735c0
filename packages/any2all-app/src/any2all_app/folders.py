"""Make output folders and files that appear only when they are complete."""

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
    """A folder to write into (``path``), and its name once it is complete (``final``)."""

    path: Path
    final: Path


def is_free(folder: Path) -> bool:
    """Whether a folder is new or empty, so that nothing in it would be overwritten."""
    return not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))


def check_output(output: Path | None) -> None:
    """Raise UserError before any work if the results could not be written."""
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
    """Return the path of the default output folder, without its number."""
    return Path(DEFAULT).resolve()


@contextmanager
def finished_folder(output: Path | None) -> Iterator[Folder]:
    """Give a temporary folder, renamed to ``output`` when the block ends without error.

    None claims the first free name of any2all-out-1, any2all-out-2 ... at once. Raises UserError
    if ``output`` exists and is not an empty folder, or cannot be written.
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
            f"--output {final}: {error.strerror}; the results are kept in {path}"
        ) from None


def _claim() -> Path:
    """Create an empty folder of the first free default name, so that no other run takes it."""
    for n in count(1):
        folder = Path(f"{DEFAULT}-{n}").resolve()
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        return folder
    raise AssertionError("count() does not end")


def write_text(path: Path, text: str) -> None:
    """Write a file atomically."""
    temporary = path.with_name(f".{path.name}-{os.getpid()}")
    temporary.write_text(text)
    os.replace(temporary, path)
