"""Recognise the names that people and data sets give a modality, in any case."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache

from any2all_operators import UserError, valid_names

from any2all_data.file_names import ONE_WORD, plain_tags
from any2all_data.rules import modality_of, read_rules

SEPARATORS = r"[\s_.-]+"
STAR = r"\*"
NO_CONTRAST = r"mri?"
"""Names of any MR image, which do not tell its contrast."""


@cache
def kind_of_name(name: str) -> str:
    """Return the modality that a usual name stands for (``t1ce`` is T1Gd); "" for none."""
    plain = re.sub(STAR, "star", re.sub(SEPARATORS, "_", name.strip().lower()))
    joined = plain.replace("_", "")
    if joined in (kind.lower() for kind in rule_modalities()):
        return next(kind for kind in rule_modalities() if kind.lower() == joined)
    for word in (plain, joined):
        if re.fullmatch(ONE_WORD, word) and not re.fullmatch(NO_CONTRAST, word):
            return modality_of(plain_tags(word, "", {}), read_rules())
    return ""


@cache
def rule_modalities() -> tuple[str, ...]:
    """Return the modalities that the built-in rules distinguish."""
    return tuple(dict.fromkeys(rule.modality for rule in read_rules() if rule.modality))


def known_name(given: str, modalities: Sequence[str], whose: str = "this prior knows") -> str:
    """Return the modality among ``modalities`` that a name means.

    An exact match comes first, then one in another case, then an alias (``t1w``, ``t1ce``,
    ``T2*``). ``whose`` begins the list of the modalities in the message.

    Raises UserError that lists the modalities if the name fits none or several of them.
    """
    if given in modalities:
        return given
    kind = kind_of_name(given)
    in_any_case = [m for m in modalities if m.lower() == given.lower()]
    meant = in_any_case or [m for m in modalities if kind and kind_of_name(m) == kind]
    if len(meant) == 1:
        return meant[0]
    if meant:
        raise UserError(f"modality {given} may be {' or '.join(meant)}; name one of them")
    raise UserError(f"unknown modality {given}{valid_names(given, modalities, whose)}")


def by_rules(given: str) -> str:
    """Return the built-in name of a modality (FLAIR for ``flair``), or an unknown name as it is."""
    return kind_of_name(given) or given
