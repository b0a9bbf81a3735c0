"""Load a prior or a trained method, with its name and hash for reports."""

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
    """A prior with its name and hash.

    Parameters
    ----------
    name
        The name by which it was requested.
    prior
        The prior.
    sha256
        SHA-256 of its weights.
    """

    name: str
    prior: DiffusionPrior
    sha256: str

    @staticmethod
    def load(name: str | Path, precision: str = "auto", device: str = "auto") -> NamedPrior:
        """Load a prior.

        Parameters
        ----------
        name
            A folder, an installed prior's name, or hf:OWNER/NAME.
        precision, device
            As in :meth:`any2all_core.DiffusionPrior.load`.

        Returns
        -------
        NamedPrior
            The prior with ``name`` and its hash.

        Raises
        ------
        UserError
            If there is no such prior, or it can't be loaded.
        """
        folder = prior_folder(name)
        prior = DiffusionPrior.load(folder, precision, device)
        return NamedPrior(str(name), prior, weights_hash(folder))


@dataclass(frozen=True)
class NamedMethod:
    """A trained method with its name and hash.

    Parameters
    ----------
    name
        The folder from which it was loaded.
    prior
        The method's answers for some of its modalities. They take the place of a prior.
    sha256
        SHA-256 of its weights.
    """

    name: str
    prior: Answers
    sha256: str

    @staticmethod
    def load(text: str, known: Sequence[ModalitySpec], device: str = "auto") -> NamedMethod:
        """Load a method for a patient.

        Parameters
        ----------
        text
            FOLDER[:OPTION=VALUE], for example "method:dc=true".
        known
            The specs of the patient's known modalities. They determine which modalities the method
            can answer.
        device
            As in :meth:`any2all_core.DiffusionPrior.load`.

        Returns
        -------
        NamedMethod
            The method with its folder and its hash.

        Raises
        ------
        UserError
            If there is no such method, or an option or a modality is unknown.
        """
        name, texts = name_and_options(text)
        options = parse_options(Answers, name_values(texts, "method option"), f"method {name}")
        fitted = FittedMethod.load(name, device)
        given = [known_name(spec.modality, fitted.modalities) for spec in known]
        modalities = fitted.answered(given) or fitted.modalities
        return NamedMethod(
            name, Answers(fitted, modalities, **options), weights_hash(name, WEIGHTS)
        )
