"""A prior, or a trained method, as it was asked for, with what identifies it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from any2all_core.answers import Answers
from any2all_core.fitted import WEIGHTS, FittedMethod
from any2all_core.named_priors import prior_folder
from any2all_core.options import parse_options
from any2all_core.prior import DiffusionPrior, weights_hash
from any2all_data.modality_names import known_name

from any2all_app.grammar import ModalitySpec, name_and_options, name_values


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


@dataclass(frozen=True)
class NamedMethod:
    """A trained method that answers about ``modalities``, what it was called, and its SHA-256."""

    name: str
    prior: Answers
    sha256: str

    @staticmethod
    def load(text: str, known: Sequence[ModalitySpec], device: str = "auto") -> NamedMethod:
        """FOLDER[:dc=true], asked about what it can give of a patient of whom this is known."""
        name, texts = name_and_options(text)
        options = parse_options(Answers, name_values(texts, "method option"), f"method {name}")
        fitted = FittedMethod.load(name, device)
        given = [known_name(spec.modality, fitted.modalities) for spec in known]
        modalities = fitted.answered(given) or fitted.modalities
        return NamedMethod(
            name, Answers(fitted, modalities, **options), weights_hash(name, WEIGHTS)
        )
