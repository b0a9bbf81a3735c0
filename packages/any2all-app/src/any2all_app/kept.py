"""Keep the finished batches of a request, so that an interrupted one can continue."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from any2all_operators import UserError
from torch import Tensor

DIGITS = 16
"""Number of digits of the request's SHA-256 in the folder's name."""
REQUEST = "request.json"


class KeptBatches:
    """The finished batches of a request, each in a file that is written atomically.

    The folder lies beside the output and has the request's hash in its name, so that another
    request never finds it. It also contains the request, which is compared.
    """

    def __init__(self, beside: Path, request: Mapping[str, Any]) -> None:
        """``beside`` is the path of the output, which need not exist yet."""
        text = json.dumps(request, indent=2, sort_keys=True, default=str)
        digest = hashlib.sha256(text.encode()).hexdigest()[:DIGITS]
        self.folder = beside.parent / f".{beside.name}-kept-{digest}"
        self._request = text

    def get(self, places: range) -> Tensor | None:
        """Return the stacks (B, M, H, W) of these places, or None if they are not drawn yet."""
        if not self._is_ours():
            return None
        try:
            return torch.from_numpy(np.load(self._path(places)))
        except (OSError, ValueError, EOFError):  # not there, or cut short by a power failure
            return None

    def put(self, places: range, stacks: Tensor) -> None:
        """Keep the stacks (B, M, H, W) of these places. Raises UserError if writing fails."""
        try:
            if not self._is_ours():
                self.folder.mkdir(parents=True, exist_ok=True)
                self._write(self.folder / REQUEST, self._request.encode())
            path = self._path(places)
            temporary = path.with_name(f"{path.name}-{os.getpid()}")
            with temporary.open("wb") as file:
                np.save(file, stacks.cpu().numpy())
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except OSError as error:
            raise UserError(
                f"{self.folder}: a finished batch can't be written ({error.strerror}); free "
                "disk space and give the same command again"
            ) from None

    def clear(self) -> None:
        """Remove all batches, once the result is complete."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _path(self, places: range) -> Path:
        return self.folder / f"{places.start}-{places.stop}.npy"

    def _is_ours(self) -> bool:
        try:
            return (self.folder / REQUEST).read_text() == self._request
        except (OSError, UnicodeDecodeError):
            return False

    def _write(self, path: Path, content: bytes) -> None:
        temporary = path.with_name(f"{path.name}-{os.getpid()}")
        temporary.write_bytes(content)
        os.replace(temporary, path)


def fingerprint(value: Any) -> str:
    """Return the SHA-256 of tensors, arrays, numbers, texts, and containers or dataclasses of them.

    Any other object is hashed by its ``repr``, which may differ between processes.
    """
    digest = hashlib.sha256()
    _add(digest, value)
    return digest.hexdigest()


def _add(digest: Any, value: Any) -> None:
    if isinstance(value, Tensor):
        value = torch.view_as_real(value) if value.is_complex() else value
        value = value.detach().cpu().contiguous().numpy()
    if isinstance(value, np.ndarray):
        digest.update(f"{value.dtype}{value.shape}".encode())
        digest.update(np.ascontiguousarray(value).tobytes())
    elif isinstance(value, Mapping):
        for key, entry in value.items():
            digest.update(repr(key).encode())
            _add(digest, entry)
    elif isinstance(value, list | tuple):
        digest.update(f"{len(value)}".encode())
        for entry in value:
            _add(digest, entry)
    elif hasattr(value, "__dict__"):
        digest.update(type(value).__qualname__.encode())
        names = [f.name for f in dataclasses.fields(value)] if _is_data(value) else vars(value)
        _add(digest, {name: getattr(value, name) for name in names})
    else:
        digest.update(repr(value).encode())


def _is_data(value: Any) -> bool:
    return dataclasses.is_dataclass(value) and not isinstance(value, type)
