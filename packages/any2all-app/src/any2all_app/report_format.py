"""The keys of report.json, and the types of their values."""

from __future__ import annotations

from typing import Any, NotRequired, TypedDict


class Score(TypedDict):
    """PSNR in dB and SSIM, as means over the scored slices.

    The two ``_scaled`` values are those at the best scale of each slice. MR has them, because a
    missing MR image has no known brightness.
    """

    psnr: float
    ssim: float
    psnr_scaled: NotRequired[float]
    ssim_scaled: NotRequired[float]


class CopyScore(Score):
    """The score of a copy of the given image ``of``."""

    of: str


class ErrorReport(TypedDict):
    """Mean absolute errors in the head, in ``unit``: of the result, and of the best constant."""

    unit: str
    mae: float
    mae_constant: float


class HeldOutReport(TypedDict):
    """How well held-out samples of a scan are predicted.

    ``held_out_errors`` are the unexplained shares of their energy, {method: share}. The result is
    ``share_of_the_prior`` times the image of the prior, and the rest is that of the method
    ``rest``, which is None if there is no rest.
    """

    held_out_errors: dict[str, float]
    share_of_the_prior: float
    rest: str | None


class ModalityReport(TypedDict):
    """How the image of one modality was made, and what is known of its quality.

    Attributes
    ----------
    operator, options
        The operator's name in the registry and its options; "missing" and {} without a measurement.
    source
        "measured", "simulated from the truth" or "missing".
    unit, scale
        The unit of the values, and the values that are 0 and 1 on the scale of the prior.
    clipped
        The share of the file's voxels outside that scale.
    notes, warnings
        Sentences for the user.
    noise_std, effective_acceleration
        The operator's, if it has them.
    residual_rms, residual_over_noise
        RMS of A x̂ − y, and its ratio to ``noise_std``; about 1 is expected.
    scan
        Properties of raw data, as its reader found them.
    slices_scored, score
        The number of slices whose truth shows a head, and the score on them.
    score_zero_filled, score_without_prior
        The scores of A* y, and of the least-squares image.
    score_copy
        The score of the given MR image that is nearest to the true one.
    error
        The error of a missing CT or PET, in its unit.
    held_out, held_out_says
        The result of held-out samples or held-out patients, and the same in a sentence.
    """

    operator: str
    options: dict[str, Any]
    source: str
    unit: str
    scale: list[float]
    clipped: NotRequired[float]
    notes: NotRequired[list[str]]
    warnings: NotRequired[list[str]]
    noise_std: NotRequired[float]
    effective_acceleration: NotRequired[float]
    residual_rms: NotRequired[float]
    residual_over_noise: NotRequired[float | None]
    scan: NotRequired[dict[str, Any]]
    slices_scored: NotRequired[int]
    score: NotRequired[Score]
    score_zero_filled: NotRequired[Score]
    score_without_prior: NotRequired[Score]
    score_copy: NotRequired[CopyScore]
    error: NotRequired[ErrorReport]
    held_out: NotRequired[HeldOutReport]
    held_out_says: NotRequired[str]


class PriorReport(TypedDict):
    """The prior: its name, the hash of its weights, and whether it saw only virtual people."""

    name: str
    sha256: str
    virtual: bool


class RunReport(TypedDict):
    """How images were drawn. ``versions`` are {package: version}.

    ``sampler`` has the sampler's ``name`` and its options. ``network_calls`` counts the steps of a
    draw, and ``network_passes`` the forward and backward passes.
    """

    versions: dict[str, str]
    prior: PriorReport
    sampler: dict[str, Any]
    seed: int
    draws: int
    through_mm: float
    device: str
    network_calls: int
    network_passes: int
    seconds: float
    not_for_clinical_use: bool


class PatientReport(TypedDict):
    """The images of a patient, {modality: its report}, and the numbers of the slices.

    If the images were resampled, ``slices`` are those of the prior's grid, and ``own_slices`` those
    of the patient's own images. ``patient`` says if the patient is nobody real, or if the prior
    knows nobody real.
    """

    modalities: dict[str, ModalityReport]
    slices: list[int]
    own_slices: NotRequired[list[int]]
    patient: NotRequired[str]


class Report(RunReport, PatientReport):
    """report.json of a completed patient."""
