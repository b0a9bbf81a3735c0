"""Parse option texts: NAME=VALUE, MODALITY=OPERATOR:NAME=VALUE:..., and SAMPLER:NAME=VALUE,..."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from any2all_core.reconstruct import make_sampler
from any2all_core.sampler import Sampler
from any2all_operators import UserError

SIZES = (8, 4096)
"""Smallest and largest number of rows or columns of a slice."""


@dataclass(frozen=True)
class ModalitySpec:
    """``FLAIR=kspace:acceleration=4:coils=8``: a modality, its operator's name, option texts."""

    modality: str
    operator: str
    options: dict[str, str]


def name_values(texts: Sequence[str], owner: str) -> dict[str, str]:
    """Parse ["a=1", "b=2"] to {"a": "1", "b": "2"}. Raises UserError for any other text."""
    pairs: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not (name and equals and value):
            raise UserError(f"{owner} {text!r}: expected NAME=VALUE")
        if name in pairs:
            raise UserError(f"{owner}: {name} is given twice")
        pairs[name] = value
    return pairs


def name_and_options(text: str) -> tuple[str, list[str]]:
    """Split ``kspace:coils=8`` into ("kspace", ["coils=8"]).

    A plugin's qualified name, distribution:name, has a colon of its own.
    """
    first, *others = text.split(":")
    options = [part for part in others if "=" in part]
    return ":".join([first, *others][: 1 + len(others) - len(options)]), options


def sampler_of(text: str) -> Sampler:
    """Make the sampler NAME[:OPTION=VALUE,...]. All samplers accept ``preset``."""
    name, options = name_and_options(text.replace(",", ":"))
    settings = name_values(options, f"sampler {name} option")
    preset = settings.pop("preset", None)
    return make_sampler(name, settings, preset)


def sampler_name(text: str) -> str:
    """Return NAME of NAME[:OPTION=VALUE,...]."""
    return name_and_options(text.replace(",", ":"))[0]


def modality_specs(text: str) -> list[ModalitySpec]:
    """Parse ``T1=clean,FLAIR=kspace:acceleration=4``: one spec per modality, in this order."""
    specs: list[ModalitySpec] = []
    for part in text.split(","):
        modality, equals, rest = part.strip().partition("=")
        operator, options = name_and_options(rest)
        if not (modality and equals and operator):
            raise UserError(
                f"--modalities {part.strip()!r}: expected MODALITY=OPERATOR[:OPTION=VALUE...], "
                "for example T1=clean,FLAIR=kspace:acceleration=4"
            )
        if any(spec.modality == modality for spec in specs):
            raise UserError(f"--modalities: {modality} is given twice")
        specs.append(ModalitySpec(modality, operator, name_values(options, f"{operator} option")))
    return specs


def parse_slices(text: str | None, count: int) -> range:
    """Parse "10:14" to range(10, 14); None takes all. Raises UserError outside of 0 to count."""
    if text is None:
        return range(count)
    first, colon, last = text.partition(":")
    try:
        chosen = range(int(first or 0), int(last or count) if colon else int(first) + 1)
    except ValueError:
        chosen = range(0)
    if not (len(chosen) and chosen.start >= 0 and chosen.stop <= count):
        raise UserError(
            f"--slices {text}: expected FIRST:LAST (LAST not included), or one "
            f"number, within 0:{count}"
        )
    return chosen


def slice_size(text: str, owner: str) -> tuple[int, int]:
    """Parse "112,96" to (rows, columns), or "128" to a square. Raises UserError."""
    least, most = SIZES
    try:
        parts = [int(part) for part in text.split(",")]
        height, width = parts * 2 if len(parts) == 1 else parts
    except ValueError:
        raise UserError(f"{owner} {text}: expected ROWS,COLUMNS (112,96) or one number") from None
    if not (least <= height <= most and least <= width <= most):
        raise UserError(f"{owner} {text}: expected {least} to {most} rows and columns")
    return height, width


def modality_names(text: str) -> tuple[str, ...]:
    """Parse the names in "T1, FLAIR". Raises UserError for an empty or repeated name."""
    names = tuple(name.strip() for name in text.split(","))
    if len(set(names)) < len(names) or not all(names):
        raise UserError(f"--modalities {text}: expected different names, such as T1,FLAIR")
    return names
