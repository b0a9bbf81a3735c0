"""A prior as it was asked for, with what identifies it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from any2all_core.prior import DiffusionPrior, weights_hash
from any2all_core.reconstruct import prior_folder


@dataclass(frozen=True)
class NamedPrior:
    """A prior, the name that it was asked for by, and the SHA-256 of its weights."""

    name: str
    prior: DiffusionPrior
    sha256: str

    @staticmethod
    def load(name: str | Path, precision: str = "auto", device: str = "auto") -> NamedPrior:
        """A folder, an installed prior's name or hf:OWNER/NAME; see ``DiffusionPrior.load``."""
        folder = prior_folder(name)
        prior = DiffusionPrior.load(folder, precision, device)
        return NamedPrior(str(name), prior, weights_hash(folder))
