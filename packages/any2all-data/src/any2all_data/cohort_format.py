"""Read and write a cohort's image format in its Zarr attributes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from any2all_core.modality_kind import ModalityKind
from any2all_core.stack_format import (
    Grid,
    StackFormat,
    grid_of,
    modality_of_normalisation,
    size_of,
)

from any2all_data.kinds import own_kinds, stack_format


def format_of(kept: Mapping[str, Any]) -> StackFormat:
    """Return a cohort's image format by its attributes; ``kinds`` are the user's own kinds."""
    own = {name: ModalityKind.from_json(fields) for name, fields in kept.get("kinds", {}).items()}
    grid = grid_of({"spacing": kept["spacing"] or None, "reference": kept["reference"]})
    table = stack_format(kept["modalities"], size_of(kept["size"]), grid, own)
    fitted = kept.get("normalisation", {})
    modalities = (
        replace(m, range=modality_of_normalisation(m.name, fitted[m.name]).range)
        if m.name in fitted
        else m
        for m in table.modalities
    )
    return replace(table, modalities=tuple(modalities))


def attributes_of(format_: StackFormat, virtual: bool) -> dict[str, Any]:
    """Return a cohort's attributes without the ranges, which are fitted later."""
    grid = format_.grid or Grid()
    return {
        "modalities": list(format_.names),
        "size": list(format_.size),
        "spacing": None if grid.spacing is None else list(grid.spacing),
        "reference": grid.reference,
        "virtual": virtual,
        "kinds": {name: _json(kind.to_json()) for name, kind in own_kinds(format_).items()},
    }


def differences(there: Mapping[str, Any], asked: Mapping[str, Any]) -> list[str]:
    """List how an existing cohort's attributes differ from the requested ones."""
    said = [
        f"{name} {_shown(there[name])}, not {_shown(asked[name])}"
        for name in asked
        if there[name] != asked[name] and name != "kinds"
    ]
    kinds = (there["kinds"], asked["kinds"])
    other = [n for n in {**kinds[0], **kinds[1]} if kinds[0].get(n) != kinds[1].get(n)]
    return said + [f"another kind of {name} than --kinds has" for name in other]


def _shown(value: Any) -> str:
    return str(tuple(value) if isinstance(value, list) else value)


def _json(fields: dict[str, Any]) -> Any:
    """Return the fields as JSON stores them, with lists in place of tuples."""
    return json.loads(json.dumps(fields))
