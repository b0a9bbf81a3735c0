"""Complete a patient in one call."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Unpack

from any2all_app.completion import Completer, CompleterOptions
from any2all_app.grammar import modality_specs, sampler_name, sampler_of
from any2all_app.named_prior import NamedPrior
from any2all_app.results import Completion


def complete(
    patient: str | Path | None,
    known: Mapping[str, str],
    prior: str | Path | NamedPrior = "lgg",
    sampler: str = "mds",
    **options: Unpack[CompleterOptions],
) -> Completion:
    """Complete one patient.

    Parameters
    ----------
    patient
        A folder of <modality>.nii.gz, raw k-space or DICOM, or COHORT/PATIENT; None is the prior's
        own example.
    known
        {modality: operator}, for example {"T1": "clean", "FLAIR": "kspace:acceleration=4"}. The
        prior's other modalities are missing and are drawn.
    prior
        A folder written by training, an installed prior's name, hf:OWNER/NAME, or a loaded prior.
    sampler
        NAME[:OPTION=VALUE,...], for example "mds:preset=paper,steps=50". All samplers accept
        ``preset``.
    options
        ``draws``, ``seed``, ``slices``, ``simulate``, ``resample``, ``through``, ``trust_axes`` and
        ``batch_size``, as in :class:`Completer`.

    Returns
    -------
    Completion
        Images, their spread, and a report.

    Raises
    ------
    UserError
        If an argument or a file can't be used. The message says what was given, what was expected
        and what to do.

    References
    ----------
    arXiv 2602.08249
    """
    named = prior if isinstance(prior, NamedPrior) else NamedPrior.load(prior)
    specs = modality_specs(",".join(f"{m}={operator}" for m, operator in known.items()))
    drawn_by = sampler_of(sampler), sampler_name(sampler)
    completer = Completer(named, tuple(specs), *drawn_by, **options)
    return completer.complete(completer.measure(patient))
