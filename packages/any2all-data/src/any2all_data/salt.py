"""The secret with which patients' names are hashed."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from any2all_operators import UserError

from any2all_data.sources import LEAST_SALT
from any2all_data.store import is_cohort


def find_salt(url: str, path: Path | None, kept: bool) -> tuple[bytes, tuple[Path, bytes] | None]:
    """Return the secret with which names are hashed, and the new file to write, or None.

    ``kept`` says whether the secret will be used again. Otherwise only this run uses it.
    """
    if path is None and "://" in url and kept:
        raise UserError(f"{url}: give --salt FILE to keep the secret that hashes the names")
    path = path or Path(f"{url.rstrip('/')}.salt")
    if path.exists():
        secret = path.read_bytes() if path.is_file() else b""
        if len(secret) < LEAST_SALT:
            raise UserError(
                f"--salt {path}: {len(secret)} bytes; expected a file of {LEAST_SALT} bytes or "
                "more, or a file that does not exist yet and will be made"
            )
        return secret, None
    made = secrets.token_bytes(32)
    if "://" not in url and is_cohort(url) and kept:
        raise UserError(f"{path}: missing, and {url} needs it to add patients; give --salt FILE")
    return made, (path, made) if kept else None


def keep_salt(path: Path, secret: bytes) -> None:
    """Write a new secret that only its owner can read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(secret)
