"""The entry of one patient in a cohort: everything known except the images."""

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
    """One patient of a cohort, without the images.

    - ``affine``: (4, 4), maps voxel (x, y, z) along (L, P, S) to mm.
    - ``present``: modalities with a usable image.
    - ``reference``: the modality to which the others were registered.
    - ``aside``: {modality: quality} of doubtful registrations, kept for review but not used.
    - ``left_out``: {modality: reason} of images that could not be used.
    - ``scale``: {modality: value that becomes 1}, for MR.
    - ``sources``: SHA-256 of the files of each modality.
    - ``preparation``: the options of the preparation.
    - ``notes``: other remarks. ``warnings``: remarks that the user must read.
    - ``choices``: {modality: [(image, reason)]} if there were several images, the used one first.
      Images are named without the patient's name.
    - ``drawn``: absent modalities with synthetic images. ``drawn_by``: prior, sampler and seed.
    - ``native``: {modality: (grid of its file, pose)}. The pose maps a point of the reference to a
      point of the image, both in mm (RAS).
    - ``masks``: {mask: the modality on which it was drawn}, for example of lesions.
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
