"""What the name of a NIfTI file says that is not named as in BIDS."""

from __future__ import annotations

import re
from collections.abc import Mapping

from any2all_data.rules import words

ONE_WORD = r"t1w?|t1n|t1(_?gd|c|ce|_?post)|t2w?|t2f|t2_?star|swi|flair|pd|mri?|ct|cbct|pet|t1w_?gd"
"""Whole names that data sets and people give by hand: they say more than a scanner's series."""
MR_WORDS = r"\b[es]?t[12](?!\d)|flair|mprage|\bpd\b|\bpdw\b|\bmra?\b|\bmri\b|\bswi\b"
CT_WORDS = r"\b(ct|cbct|ncct|cect|ldct|cta)\b"
PET_WORDS = r"\b(pet|fdg|suv\w*)\b|^adni .* pt "
OTHER_SPACE = (
    r"(\b(reg|registered|coreg\w*|warped|aligned) ?)?(\b|(?<=reg))(to|in|on|2) ?"
    r"(t[12]\w*|flair|ct|pet|mri?|mni\w*|atlas|template)( ?space)?\b"
)
"""What an image was moved to, which is not what it is: T2_to_T1."""
PROCESSED = (
    r"\b(bet|stripped|skull ?strip\w*|reg|registered|coreg\w*|warped|resampled|resliced|mni\w*|n4|"
    r"biascorr\w*|preproc\w*|norm|normali[sz]ed|smooth\w*|denoised|brain)\b"
)


def plain_tags(stem: str, patient: str, told: Mapping[str, str]) -> dict[str, str]:
    """What rules look at: text, name, Modality, derived.

    ``guessed`` is "Modality" where nothing tells it, so that it is taken for MR.

    ``text`` is the name without the patient's folder at its start, as words of an identifier mean
    nothing (``CT_007``); or the SeriesDescription of its JSON, ``told``, unless the name is one
    word that someone gave by hand (``t1ce``).
    """
    name = _without(stem, patient)
    described = told.get("SeriesDescription", "")
    by_hand = re.fullmatch(ONE_WORD, name, re.IGNORECASE) is not None
    own = words(name)
    moved = " ".join(re.sub(OTHER_SPACE, " ", own).split())
    derived = "processed" if moved != own or re.search(PROCESSED, own) else ""
    text = described if described and not by_hand else name if moved == own else moved
    kind = told.get("Modality") or _kind(words(text))
    guessed = "Modality" if kind is None else ""
    tags = {"text": text, "name": name, "derived": derived, "guessed": guessed}
    tags["Modality"] = "MR" if kind is None else kind
    return {key: value for key, value in tags.items() if value}


def _kind(text: str) -> str | None:
    """DICOM's Modality by whole words; "" where they say two of them, None where they say none."""
    if re.search(MR_WORDS, text):
        return "MR"
    ct, pet = (re.search(wanted, text) is not None for wanted in (CT_WORDS, PET_WORDS))
    return "" if ct and pet else "CT" if ct else "PT" if pet else None


def _without(stem: str, patient: str) -> str:
    """The stem without the patient's name at its start, separators apart."""
    parts = [re.escape(part) for part in re.split(r"[\W_]+", patient) if part]
    if not parts:
        return stem
    found = re.match(r"[\W_]*".join(parts) + r"(?=[\W_]|$)[\W_]*", stem, re.IGNORECASE)
    return (stem[found.end() :] if found else stem) or stem
