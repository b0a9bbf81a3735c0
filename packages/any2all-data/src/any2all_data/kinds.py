"""The table of modality kinds: ``kinds.toml``, and a user's own beside it."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from any2all_core.modality_kind import ModalityKind, pair
from any2all_core.stack_format import Grid, ModalityFormat, Range, StackFormat
from any2all_operators import UserError

from any2all_data.rules import check_lines, words

Kinds = Mapping[str, ModalityKind]
"""{name: kind}."""
NO_KINDS: Kinds = {}
MR = ModalityKind("MR")
"""A kind of which nothing is said: MR in arbitrary units."""
KEYS = {field.name for field in fields(ModalityKind)} - {"name", "range"} | {"like"}
TEXTS = ("like", "unit", "values", "dicom", "second_choice")
NUMBERS = ("threshold", "margin")


@cache
def shipped_kinds() -> Kinds:
    """The kinds that come with this package."""
    text = (files("any2all_data") / "kinds.toml").read_text()
    return _kinds(tomllib.loads(text), {})


def read_kinds(path: Path) -> Kinds:
    """The kinds of a user's TOML file; ``kinds.toml`` says what may stand in it.

    Raises UserError naming the file, the kind and what is wrong.
    """
    try:
        tables = tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not text"
        raise UserError(f"--kinds {path}: {reason}; expected a TOML file of kinds") from None
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"--kinds {path}: not readable as TOML ({error}); mend it") from None
    if not tables:
        raise UserError(f"--kinds {path}: no kind in it; expected tables, as [ADC]")
    try:
        found = _kinds(tables, shipped_kinds())
    except UserError as error:
        raise UserError(f"--kinds {path}: {error}") from None
    return {name: _with_match(kind) for name, kind in found.items()}


def kind_of(name: str, own: Kinds = NO_KINDS) -> ModalityKind:
    """The kind of a name: one's own, or that of the table, or else MR in arbitrary units."""
    known = own.get(name) or shipped_kinds().get(name)
    return known or replace(shipped_kinds()["MR"], name=name)


def kind_for(modality: ModalityFormat) -> ModalityKind:
    """The kind of a stack's modality."""
    return modality.kind or kind_of(modality.name)


def kind_of_dicom(modality: str) -> ModalityKind:
    """The first kind of the table whose series have this DICOM Modality; MR for any other."""
    return next((kind for kind in shipped_kinds().values() if kind.dicom == modality), MR)


def own_kinds(format_: StackFormat) -> Kinds:
    """The kinds of a stack that are not those of the table."""
    return {m.name: m.kind for m in format_.modalities if m.kind is not None}


def stack_format(
    names: Sequence[str],
    size: tuple[int, int],
    grid: Grid | None = None,
    own: Kinds = NO_KINDS,
) -> StackFormat:
    """The format of a stack of these modalities, slices (H, W), by the table of kinds.

    own: kinds that the table lacks, or has otherwise. The ranges of kinds that are scaled by the
    training group are not known yet.
    """
    return StackFormat(tuple(_format(kind_of(name, own)) for name in names), size, grid)


def _format(kind: ModalityKind) -> ModalityFormat:
    limits = None if kind.range is None else Range(*kind.range)
    known = kind == kind_of(kind.name)
    return ModalityFormat(kind.name, kind.unit, kind.scaling, limits, None if known else kind)


def _kinds(tables: Mapping[str, Any], known: Kinds) -> Kinds:
    found: dict[str, ModalityKind] = {}
    for name, table in tables.items():
        if not isinstance(table, dict):
            raise UserError(f"{name} = {table!r}; expected a table, as [ADC]")
        if not re.fullmatch(r"\w[\w.+-]*", name):
            raise UserError(f"{name!r}: expected a name of letters and digits, as ADC")
        found[name] = _kind(name, table, {**known, **found})
    return found


def _kind(name: str, table: Mapping[str, Any], known: Kinds) -> ModalityKind:
    if unknown := sorted(set(table) - KEYS):
        raise UserError(f"{name}: {unknown[0]} is unknown; there are {', '.join(sorted(KEYS))}")
    for key, value in table.items():
        _check_type(name, key, value)
    like = table.get("like", "MR")
    if like != "MR" and like not in known:
        raise UserError(f"{name}: like {like!r} is unknown; there are {', '.join(known)}")
    told = (known.get(like) or MR).to_json() | {"match": ()} | dict(table) | {"name": name}
    told.pop("like", None)
    if isinstance(told.get("scaling"), list):
        told |= {"scaling": "fixed", "range": told["scaling"]}
    elif "scaling" in table:
        told["range"] = None
    told["match"] = [check_lines(one, name) for one in told["match"]]
    return ModalityKind.from_json(told)


def _with_match(kind: ModalityKind) -> ModalityKind:
    """The kind, told by its name where neither it nor ``modalities.toml`` says how."""
    if kind.match or kind.name in shipped_kinds():
        return kind
    return replace(kind, match=({"words": rf"\b{re.escape(words(kind.name))}\b"},))


def _check_type(name: str, key: str, value: Any) -> None:
    """Raise UserError where a value is not of the key's type."""
    number = type(value) in (int, float)
    expected = {
        **dict.fromkeys(TEXTS, ("text", isinstance(value, str))),
        **dict.fromkeys(NUMBERS, ("a number of at least 0", number and value >= 0)),
        "voxels": ("a whole number above 0", type(value) is int and value > 0),
        "contrast_agent": ("true or false", isinstance(value, bool)),
        "times": ("a table, as EchoTime = [50, 1000]", isinstance(value, dict)),
        "match": ("tables, as [[ADC.match]]", _are_tables(value)),
        "scaling": ('"patient", "group" or [LOW, HIGH]', isinstance(value, str | list)),
    }
    if key in expected:
        what, fits = expected[key]
        if not fits:
            raise UserError(f"{name}: {key} = {value!r}; expected {what}")
    else:
        pair(value, f"{name}: {key}")
    if key == "second_choice":
        check_lines({"words": value}, name)


def _are_tables(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(v, dict) for v in value)
