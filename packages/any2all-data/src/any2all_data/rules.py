"""Rules that tell the modality of a series or file by its tags. The first match wins."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

from any2all_core.modality_kind import ModalityKind
from any2all_operators import UserError

AFTER = (
    r"\bgd\b",
    r"\bgad",
    r"\bpost(gd|gad\w*|contrast|km)?\b(?! ?(op|surg|proc|treat|ther|trauma|fossa|ictal|rt\b))",
    r"\bcontrast|\bkontra",
    r"\bce\b|\benhanced|\binj|\bmdc\b|\bk ?m\b",
    r"\+ ?(c|ce|k|km|gd|gad\w*)\b|\bc ?\+|\+$",
    r"\bt1w? ?c\b|\bt1w?(gd|ce|km|post|gad)",
    r"\bdotarem|\bgadovist|\bcta\b",
)
BEFORE = (
    r"\bpre(contrast|gd|gad\w*)?\b|\bunenhanced|\bnati[vf]\w*",
    r"\bwithout|\bwo\b|\bw o\b|\bohne\b|\bsans\b|\bsenza\b|\bsin\b",
    r"\bno ?(contrast|gad\w*|gd|ce?|km)\b|\bnon ?(contrast|enhanced|gd|ce?)\b",
)
"""Words, in several languages, of images made after and without a contrast agent."""
NO_AGENT = r"$|(no|none|n|0|without|unknown)$"
OWN_KINDS = "*"
"""The modality of the rule that is replaced by the rules of a user's own kinds."""


@dataclass(frozen=True)
class Rule:
    """One rule of ``modalities.toml``. The modality "" leaves a series out."""

    modality: str
    lines: Mapping[str, str] = field(default_factory=dict)

    def matches(self, tags: Mapping[str, str]) -> bool:
        for name, wanted in self.lines.items():
            value = _tag_value(name.removeprefix("not_"), tags)
            if _matches(wanted, value) == name.startswith("not_"):
                return False
        return True


def words(text: str) -> str:
    """Return a text's words in lower case, separated by one space. ``*`` and ``+`` are kept.

    Then ``\\b`` finds the ends of words in ``t2_tse_tra`` and ``T2-TSE`` alike.
    """
    return " ".join(re.sub(r"[^\w*+]|_", " ", text).lower().split())


def after_contrast(tags: Mapping[str, str]) -> bool:
    """Whether an image was made after a contrast agent was given.

    The BIDS entity ``ce-`` decides first, then words that deny it, then words that affirm it or
    the tag ContrastBolusAgent. The tag comes last because some sites fill it for the whole exam.
    """
    said = words(tags.get("text", ""))
    if label := tags.get("ce"):
        return not re.match(r"no|pre", label)
    if re.search("|".join(BEFORE), said):
        return False
    agent = tags.get("ContrastBolusAgent", "").strip()
    return bool(re.search("|".join(AFTER), said)) or not re.match(NO_AGENT, agent, re.IGNORECASE)


def read_rules(path: Path | None = None, own: Iterable[ModalityKind] = ()) -> list[Rule]:
    """Read the rules of a TOML file, or those that come with this package.

    The rules of a user's ``own`` kinds replace the rule with the modality "*". A file without such
    a rule has them first.

    Raises UserError if the file is not TOML, a rule has no modality, or a value can't be used.
    """
    shipped = files("any2all_data") / "modalities.toml"
    try:
        text = path.read_text() if path else shipped.read_text()
        tables = tomllib.loads(text)["rule"]
    except (OSError, tomllib.TOMLDecodeError, KeyError, UnicodeDecodeError) as error:
        raise UserError(
            f"{path}: no rules can be read ({error}); expected [[rule]] tables"
        ) from None
    rules: list[Rule] = []
    own_rules = [rule for kind in own for rule in _rules_of(kind)]
    placed = False
    for table in tables if isinstance(tables, list) else [tables]:
        if table == {"modality": OWN_KINDS}:
            rules += own_rules
            placed = True
            continue
        usable = isinstance(table, dict) and isinstance(table.get("modality"), str)
        if not usable or len(table) < 2:
            raise UserError(
                f'{path}: rule {table} needs modality = "NAME" and at least one line to match'
            )
        lines = {name: value for name, value in table.items() if name != "modality"}
        rules.append(Rule(table["modality"], check_lines(lines, str(path))))
    return rules if placed else own_rules + rules


def check_lines(table: Mapping[str, Any], where: str) -> dict[str, str]:
    """Return a rule's lines. Raises UserError that begins with ``where`` for an invalid one."""
    lines = {name: _as_pattern(value) for name, value in table.items()}
    for name, value in lines.items():
        try:
            _matches(value, "0")
        except (re.error, ValueError) as error:
            raise UserError(
                f"{where}: {name} = {value!r} is no regular expression or comparison ({error})"
            ) from None
    return lines


def _rules_of(kind: ModalityKind) -> list[Rule]:
    """Return the rules of a kind's ``match``.

    They apply to images with the kind's DICOM Modality and to files without a known Modality. A
    file named like the modality always matches, whatever its JSON says.
    """
    if not kind.match:
        return []
    rules = [Rule(kind.name, {"name": f"^{re.escape(kind.name)}$"})]
    for lines in kind.match:
        rules.append(Rule(kind.name, {"Modality": f"^{kind.dicom}$", **lines}))
        rules.append(Rule(kind.name, {"guessed": "^Modality$", **lines}))
    return rules


def modality_of(tags: Mapping[str, str], rules: Sequence[Rule]) -> str:
    """Return the modality of the first rule that matches; "" if none does."""
    return next((rule.modality for rule in rules if rule.matches(tags)), "")


def number(tags: Mapping[str, str], keyword: str) -> float | None:
    """Return the first number of a tag; None if there is none."""
    try:
        return float(tags.get(keyword, "").split("\\")[0])
    except ValueError:
        return None


def _tag_value(name: str, tags: Mapping[str, str]) -> str:
    if name == "words":
        return words(tags.get("text", ""))
    if name == "contrast":
        return "after" if after_contrast(tags) else "before"
    return tags.get(name, "")


def _as_pattern(value: object) -> str:
    """Return a line's value as one regular expression. A list matches if one item matches."""
    return "|".join(map(str, value)) if isinstance(value, list) else str(value)


def _matches(wanted: str, value: str) -> bool:
    """Whether the value contains the regular expression, or its first number compares so."""
    if not value:
        return False
    if wanted[:1] in "<>":
        limit, found = float(wanted[1:]), number({"": value}, "")
        if found is None:
            return False
        return found < limit if wanted[0] == "<" else found > limit
    return re.search(wanted, value, re.IGNORECASE) is not None
