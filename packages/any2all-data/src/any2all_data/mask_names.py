"""Which NIfTI files are masks of lesions and the like, by their names."""

from __future__ import annotations

import re

WORDS = {
    "lesion": "lesion lesions wmh tumor tumour infarct stroke",
    "seg": "seg dseg segmentation segmentations",
    "mask": "mask masks roi label labels brainmask",
}
"""What a mask is called, by words of its file's name; the first that fits."""
NO_MASK = {"filled", "masked", "stripped", "map", "prob", "probability"}
"""Words of an image that was made with a mask, or of one that has no labels."""


def mask_of(name: str) -> str:
    """What kind of mask a NIfTI file is by its name: lesion, seg or mask; "" for an image."""
    words = words_of(name)
    if words & NO_MASK:
        return ""
    return next((kind for kind, named in WORDS.items() if words & set(named.split())), "")


def words_of(name: str) -> set[str]:
    """The words of a NIfTI file's name, small."""
    return set(re.split(r"[^a-z0-9]+", name.lower().split(".nii")[0])) - {""}
