"""One patient of a cohort: what is known beside the images."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, get_args

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
NOT_DEFACED = "faces are as in the source: not defaced here"
SIMULATED = "virtual: simulated, no such person exists"
ALWAYS_NOTED = (NOT_DEFACED, SIMULATED)
"""Notes that every patient of a source has, or every virtual person."""


@dataclass(frozen=True)
class Entry:
    """One patient: what is known beside the images.

    affine: (4, 4), voxel (x, y, z) along (L, P, S) to mm; present: modalities that are there and
    good; reference: the modality whose place the others were moved to; aside: {modality: quality}
    of those whose registration is doubtful, kept for a human's look and not used; left_out:
    {modality: why} of those that could not be used; scale: {modality: value that becomes 1} of MR;
    sources: SHA-256 of the files each modality was made of; preparation: the options it was
    prepared with; notes: what else is worth saying; choices: {modality: [(image, why)]} of those
    that have several images, the one that is used first, named without a patient's name; warnings:
    sentences that a user has to read, such as what nothing decided; drawn: absent modalities of
    which there are synthetic images, drawn_by: what drew them (prior, sampler, seed); native:
    {modality: the grid of its file, and the pose, a point of the reference in mm to one of the
    image in mm (RAS)}; masks: {mask: the modality whose file it lay on}, of lesions and the like.
    """

    split: Split
    affine: list[list[float]]
    present: list[str]
    reference: str = ""
    aside: dict[str, float] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    quality: dict[str, float] = field(default_factory=dict)
    scale: dict[str, float] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)
    preparation: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    choices: dict[str, list[list[str]]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    drawn: list[str] = field(default_factory=list)
    drawn_by: dict[str, Any] = field(default_factory=dict)
    native: dict[str, dict[str, Any]] = field(default_factory=dict)
    masks: dict[str, str] = field(default_factory=dict)

    @property
    def bias_corrected(self) -> bool:
        """Whether N4 was applied to MR."""
        return bool(self.preparation.get("bias_correct", False))
