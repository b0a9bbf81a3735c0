"""Read the name of a NIfTI file that does not follow BIDS."""

from __future__ import annotations

import re
from collections.abc import Mapping

from any2all_data.rules import words

ONE_WORD = r"t1w?|t1n|t1(_?gd|c|ce|_?post)|t2w?|t2f|t2_?star|swi|flair|pd|mri?|ct|cbct|pet|t1w_?gd"
"""Names given by hand, as a whole. They are preferred to a scanner's series description."""
MR_WORDS = r"\b[es]?t[12](?!\d)|flair|mprage|\bpd\b|\bpdw\b|\bmra?\b|\bmri\b|\bswi\b"
CT_WORDS = r"\b(ct|cbct|ncct|cect|ldct|cta)\b"
PET_WORDS = r"\b(pet|fdg|suv\w*)\b|^adni .* pt "
OTHER_SPACE = (
    r"(\b(reg|registered|coreg\w*|warped|aligned) ?)?(\b|(?<=reg))(to|in|on|2) ?"
    r"(t[12]\w*|flair|ct|pet|mri?|mni\w*|atlas|template)( ?space)?\b"
)
"""The target of a registration, which does not name the image itself: T2_to_T1."""
PROCESSED = (
    r"\b(bet|stripped|skull ?strip\w*|reg|registered|coreg\w*|warped|resampled|resliced|mni\w*|n4|"
    r"biascorr\w*|preproc\w*|norm|normali[sz]ed|smooth\w*|denoised|brain)\b"
)


def plain_tags(stem: str, patient: str, sidecar: Mapping[str, str]) -> dict[str, str]:
    """Return the tags for rules: text, name, Modality, derived, guessed.

    ``text`` is the SeriesDescription in the ``sidecar``. If there is none, or the name was given
    by hand (``t1ce``), ``text`` is the name without the patient's identifier, whose words mean
    nothing (``CT_007``). ``guessed`` is "Modality" if nothing tells the DICOM Modality, which
    is then taken as MR.
    """
    name = _without_patient(stem, patient)
    described = sidecar.get("SeriesDescription", "")
    by_hand = re.fullmatch(ONE_WORD, name, re.IGNORECASE) is not None
    own = words(name)
    moved = " ".join(re.sub(OTHER_SPACE, " ", own).split())
    derived = "processed" if moved != own or re.search(PROCESSED, own) else ""
    text = described if described and not by_hand else name if moved == own else moved
    kind = sidecar.get("Modality") or _kind(words(text))
    guessed = "Modality" if kind is None else ""
    tags = {"text": text, "name": name, "derived": derived, "guessed": guessed}
    tags["Modality"] = "MR" if kind is None else kind
    return {key: value for key, value in tags.items() if value}


def _kind(text: str) -> str | None:
    """Return DICOM's Modality by whole words: "" if they name two, None if they name none."""
    if re.search(MR_WORDS, text):
        return "MR"
    ct, pet = (re.search(wanted, text) is not None for wanted in (CT_WORDS, PET_WORDS))
    return "" if ct and pet else "CT" if ct else "PT" if pet else None


def _without_patient(stem: str, patient: str) -> str:
    """Return the stem without the patient's name at its start, whatever the separators."""
    parts = [re.escape(part) for part in re.split(r"[\W_]+", patient) if part]
    if not parts:
        return stem
    found = re.match(r"[\W_]*".join(parts) + r"(?=[\W_]|$)[\W_]*", stem, re.IGNORECASE)
    return (stem[found.end() :] if found else stem) or stem
