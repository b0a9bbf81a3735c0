"""The kinds of modalities, from ``kinds.toml`` and from a user's own file."""

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
"""The kind of an unknown modality: MR in arbitrary units."""
KEYS = {field.name for field in fields(ModalityKind)} - {"name", "range"} | {"like"}
TEXTS = ("like", "unit", "values", "dicom", "second_choice")
NUMBERS = ("threshold", "margin")


@cache
def shipped_kinds() -> Kinds:
    """Return the kinds that come with this package."""
    text = (files("any2all_data") / "kinds.toml").read_text()
    return _kinds(tomllib.loads(text), {})


def read_kinds(path: Path) -> Kinds:
    """Read the kinds of a user's TOML file. ``kinds.toml`` explains its keys.

    Raises UserError that names the file, the kind and the fault.
    """
    try:
        tables = tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not text"
        raise UserError(f"--kinds {path}: {reason}; expected a TOML file of kinds") from None
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"--kinds {path}: not readable as TOML ({error}); mend it") from None
    if not tables:
        raise UserError(f"--kinds {path}: no kind in it; expected tables such as [ADC]")
    try:
        found = _kinds(tables, shipped_kinds())
    except UserError as error:
        raise UserError(f"--kinds {path}: {error}") from None
    return {name: _with_match(kind) for name, kind in found.items()}


def kind_of(name: str, own: Kinds = NO_KINDS) -> ModalityKind:
    """Return the user's own kind of this name, else the built-in one, else that of MR."""
    known = own.get(name) or shipped_kinds().get(name)
    return known or replace(shipped_kinds()["MR"], name=name)


def kind_for(modality: ModalityFormat) -> ModalityKind:
    """Return the kind of a stack's modality."""
    return modality.kind or kind_of(modality.name)


def kind_of_dicom(modality: str) -> ModalityKind:
    """Return the first built-in kind with this DICOM Modality; MR for any other."""
    return next((kind for kind in shipped_kinds().values() if kind.dicom == modality), MR)


def own_kinds(format_: StackFormat) -> Kinds:
    """Return the kinds of a stack that are not the built-in ones."""
    return {m.name: m.kind for m in format_.modalities if m.kind is not None}


def stack_format(
    names: Sequence[str],
    size: tuple[int, int],
    grid: Grid | None = None,
    own: Kinds = NO_KINDS,
) -> StackFormat:
    """Return the format of a stack of these modalities with slices of ``size`` (H, W).

    ``own`` are a user's kinds, which come before the built-in ones. Ranges that are fitted on the
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
            raise UserError(f"{name} = {table!r}; expected a table such as [ADC]")
        if not re.fullmatch(r"\w[\w.+-]*", name):
            raise UserError(f"{name!r}: expected a name of letters and digits, such as ADC")
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
    entries = (known.get(like) or MR).to_json() | {"match": ()} | dict(table) | {"name": name}
    entries.pop("like", None)
    if isinstance(entries.get("scaling"), list):
        entries |= {"scaling": "fixed", "range": entries["scaling"]}
    elif "scaling" in table:
        entries["range"] = None
    entries["match"] = [check_lines(one, name) for one in entries["match"]]
    return ModalityKind.from_json(entries)


def _with_match(kind: ModalityKind) -> ModalityKind:
    """Return the kind. If nothing says how to recognise it, its name becomes the rule."""
    if kind.match or kind.name in shipped_kinds():
        return kind
    return replace(kind, match=({"words": rf"\b{re.escape(words(kind.name))}\b"},))


def _check_type(name: str, key: str, value: Any) -> None:
    """Raise UserError if a value does not have the key's type."""
    number = type(value) in (int, float)
    expected = {
        **dict.fromkeys(TEXTS, ("text", isinstance(value, str))),
        **dict.fromkeys(NUMBERS, ("a number of at least 0", number and value >= 0)),
        "voxels": ("a whole number above 0", type(value) is int and value > 0),
        "contrast_agent": ("true or false", isinstance(value, bool)),
        "times": ("a table such as EchoTime = [50, 1000]", isinstance(value, dict)),
        "match": ("tables such as [[ADC.match]]", _are_tables(value)),
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
