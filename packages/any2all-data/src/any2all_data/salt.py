"""The secret that patients' names are hashed with."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from any2all_operators import UserError

from any2all_data.sources import LEAST_SALT
from any2all_data.store import is_cohort


def find_salt(url: str, path: Path | None, kept: bool) -> tuple[bytes, tuple[Path, bytes] | None]:
    """The secret that patients' names are hashed with; where it is new, the file to keep it in.

    kept: whether it is to be used again; otherwise it is of this run alone.
    """
    if path is None and "://" in url and kept:
        raise UserError(f"{url}: give --salt FILE to keep the secret that names are hashed with")
    path = path or Path(f"{url.rstrip('/')}.salt")
    if path.exists():
        secret = path.read_bytes() if path.is_file() else b""
        if len(secret) < LEAST_SALT:
            raise UserError(
                f"--salt {path}: {len(secret)} bytes; expected a file of {LEAST_SALT} or more, or "
                "none, to have one made"
            )
        return secret, None
    made = secrets.token_bytes(32)
    if "://" not in url and is_cohort(url) and kept:
        raise UserError(f"{path}: missing; without it {url} can't be appended to, give --salt FILE")
    return made, (path, made) if kept else None


def keep_salt(path: Path, secret: bytes) -> None:
    """Write a new secret, readable by its owner alone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(secret)
