"""Read from BIDS file names and sidecars what kind of image a file is.

A name is sub-01[_ses-a][_key-value ...]_suffix.nii.gz, in the folder of its datatype. It consists
of pairs and a suffix, joined by underscores. ``modalities.toml`` says what a suffix means.

No BIDS library is used: pybids would add an SQL database, and bidsschematools judges whole data
sets. Both leave out common names that are not valid (``sub-01_T1.nii.gz``), which are read here.
Entities, datatypes and suffixes are those of the schema in bidsschematools 2.0.1.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

DATATYPES = frozenset(
    {"anat", "beh", "ct", "dwi", "eeg", "emg", "fmap", "func", "ieeg"}
    | {"meg", "micr", "motion", "mrs", "nirs", "perf", "pet", "swi"}
)
"""Datatype folders. ``ct`` and ``swi`` belong to proposed extensions of the standard."""
DERIVED = ("desc", "space", "res", "den", "label", "seg", "atlas", "from", "to", "mode")
"""Entities that only a derivative has."""
PAIR = r"([a-z]+)-([A-Za-z0-9+.]*)"
SECONDS = {"EchoTime": 1.0, "InversionTime": 15.0, "RepetitionTime": 50.0}
"""Times that JSON gives in s and DICOM in ms, with the largest plausible value in s."""
RENAMED = {"ContrastBolusIngredient": "ContrastBolusAgent", "TracerName": "Radiopharmaceutical"}
"""Sidecar keys whose name differs from DICOM's."""


def entities(stem: str) -> tuple[dict[str, str], str] | None:
    """Split a name without extension into {key: value} and suffix; None if it is not BIDS.

    The suffix is "" if the last part is also a pair. Then the name does not tell the image's kind.
    """
    *pairs, suffix = stem.split("_")
    if re.fullmatch(PAIR, suffix):
        pairs, suffix = [*pairs, suffix], ""
    found = [re.fullmatch(PAIR, pair) for pair in pairs]
    if not found or not all(found) or not re.fullmatch(r"[A-Za-z0-9]*", suffix):
        return None
    return {match[1]: match[2] for match in found if match}, suffix


def bids_tags(path: Path) -> dict[str, str] | None:
    """Return the tags for rules: entities, suffix, datatype, derived; None if not a BIDS name.

    ``text`` is only the suffix, so that a label (``acq-t1tirm``) is not taken for a contrast.
    """
    named = entities(stem_of(path))
    if named is None:
        return None
    keys, suffix = named
    folder = datatype_of(path)
    if folder in ("", "anat"):
        folder = suffix.lower() if suffix.lower() in ("pet", "ct") else "anat"
    derived = [key for key in DERIVED if key in keys]
    if "derivatives" in path.parts:
        derived.append("derivatives")
    own = {"text": suffix, "suffix": suffix, "datatype": folder, "derived": " ".join(derived)}
    kind = {"pet": "PT", "ct": "CT"}.get(folder, "MR")
    return keys | {name: value for name, value in own.items() if value} | {"Modality": kind}


def datatype_of(path: Path) -> str:
    """Return the datatype of a file's folder, or "". ``anat2`` counts as anat."""
    folder = path.parent.name.rstrip("0123456789")
    return folder if folder in DATATYPES else ""


def sidecar_tags(metadata: Mapping[str, Any]) -> dict[str, str]:
    """Convert a sidecar's values to DICOM's form: times in ms, lists joined by backslash."""
    tags = {}
    for key, value in metadata.items():
        values = value if isinstance(value, list) else [value]
        if not values or not all(isinstance(v, str | int | float) for v in values):
            continue
        if key in SECONDS:
            values = [
                v * 1000 if not isinstance(v, str) and v <= SECONDS[key] else v for v in values
            ]
        tags[RENAMED.get(key, key)] = "\\".join(
            f"{v:g}" if isinstance(v, float) else str(v) for v in values
        )
    return tags


def stem_of(path: Path) -> str:
    return path.name.split(".nii")[0]
