"""Recognise masks, for example of lesions, by the names of NIfTI files."""

from __future__ import annotations

import re

WORDS = {
    "lesion": "lesion lesions wmh tumor tumour infarct stroke",
    "seg": "seg dseg segmentation segmentations",
    "mask": "mask masks roi label labels brainmask",
}
"""Words in the file name of each kind of mask. The first kind that fits is used."""
NO_MASK = {"filled", "masked", "stripped", "map", "prob", "probability"}
"""Words in names of images that were made with a mask, or that have no labels."""


def mask_of(name: str) -> str:
    """Return the kind of mask of a NIfTI file's name: lesion, seg or mask; "" for an image."""
    words = words_of(name)
    if words & NO_MASK:
        return ""
    return next((kind for kind, named in WORDS.items() if words & set(named.split())), "")


def words_of(name: str) -> set[str]:
    """Return the words of a NIfTI file's name in lower case."""
    return set(re.split(r"[^a-z0-9]+", name.lower().split(".nii")[0])) - {""}
