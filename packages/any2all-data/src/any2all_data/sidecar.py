"""Read the JSON sidecars of NIfTI files, as BIDS and dcm2niix write them."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from any2all_operators import UserError

SUBJECT = "sub-"
PARTICIPANTS = "participants.tsv"


def in_bids(path: Path) -> bool:
    """Whether a file is named as BIDS names a subject's files."""
    return path.name.startswith(SUBJECT)


def read_sidecar(path: Path) -> dict[str, Any]:
    """Read the metadata of an image; {} if there is none.

    The sidecar of ``<name>.nii.gz`` is ``<name>.json``. By the inheritance principle of BIDS, JSON
    files in the folders above also apply, up to the data set's, if they have the same suffix and
    only entities of the image's name. A file nearer to the image overrides one further away.

    Raises UserError, without a path, for a file that is not a JSON object.
    """
    merged: dict[str, Any] = {}
    for sidecar in sidecar_files(path):
        merged |= _object(sidecar)
    return merged


def sidecar_files(path: Path) -> list[Path]:
    """List the files of :func:`read_sidecar`. Each overrides those before it."""
    return [sidecar for folder in _folders(path) for sidecar in _applicable(folder, path)]


def write_suv_sidecar(path: Path) -> None:
    """Write a sidecar that gives the unit of ``<name>.nii.gz``: SUV by body weight, in g/ml."""
    text = json.dumps({"Units": "g/mL"})
    path.with_name(f"{path.name.split('.nii')[0]}.json").write_text(f"{text}\n")


def read_participant(path: Path) -> dict[str, str]:
    """Return the subject's row {column: value} of BIDS' participants.tsv; {} if there is none."""
    if not in_bids(path):
        return {}
    table, subject = _folders(path)[0] / PARTICIPANTS, path.name.split("_")[0]
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            rows = [row for row in csv.DictReader(file, delimiter="\t") if row]
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, csv.Error):
        raise UserError(f"{PARTICIPANTS} is not readable; mend it first") from None
    found = next((row for row in rows if row.get("participant_id") == subject), {})
    return {str(name): value for name, value in found.items() if isinstance(value, str)}


def _folders(path: Path) -> list[Path]:
    """List the folders from the data set down to the image; outside BIDS only the image's own."""
    parents = list(path.parents)
    subjects = [k for k, parent in enumerate(parents) if parent.name.startswith(SUBJECT)]
    if not in_bids(path) or not subjects:
        return [path.parent]
    return parents[: subjects[-1] + 2][::-1]


def _applicable(folder: Path, path: Path) -> list[Path]:
    """List the sidecars in one folder that apply to an image, the most specific last."""
    stem = path.name.split(".nii")[0]
    if not in_bids(path):
        own = folder / f"{stem}.json"
        return [own] if own.is_file() else []
    *entities, suffix = stem.split("_")
    found = []
    for sidecar in sorted(folder.glob("*.json")):
        *asked, ends = sidecar.stem.split("_")
        if ends == suffix and set(asked) <= set(entities) and sidecar.is_file():
            found.append((len(asked), sidecar))
    return [sidecar for _, sidecar in sorted(found)]


def _object(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise UserError("its sidecar is not a JSON object ({...}); mend or remove it")
    return content
