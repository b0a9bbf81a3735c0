"""Divide patients into train, val and test."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from any2all_operators import UserError

from any2all_data.cohort_entry import SPLITS, Entry, Split

LIMITS: dict[Split, float] = {"train": 0.8, "val": 0.9}
"""A key with its place in [0, 1) below 0.8 is in train, below 0.9 in val, and otherwise in test."""
ENOUGH = 5
"""Smallest number of patients for which val and test get at least one each."""
MOST = 0.2
"""Largest share of all patients in test, and in val."""
KEY = 14
"""Number of characters in a patient's key, to which a session adds more."""


@dataclass(frozen=True)
class SplitCandidate:
    """A patient who needs a split.

    - ``name``: name in the source.
    - ``key``: pseudonym.
    - ``images``: number of modalities.
    """

    name: str
    key: str
    images: int


def assigned(
    split: str, people: Sequence[SplitCandidate], before: Mapping[str, Split]
) -> dict[str, Split]:
    """Return {key: split} of patients.

    ``split`` is one split for all patients, the path of a JSON file {split: [names]}, or "auto".
    With "auto", each patient's key decides, and :func:`balanced` makes sure that neither test nor
    val is empty. Patients who are already in the cohort, ``before`` {key: split}, stay where they
    are.

    Raises UserError if ``split`` is invalid or the file lacks a patient.
    """
    if split in SPLITS:
        return {person.key: split for person in people}
    if split == "auto":
        by_place = {person.key: _by_place(person.key) for person in people}
        return balanced(by_place | dict(before), [p for p in people if p.key not in before])
    named = _read(Path(split), split)
    unknown = [person.key for person in people if person.name not in named]
    if unknown:
        raise UserError(f"--split {split}: {unknown[0]} is in none of its groups")
    return {person.key: named[person.name] for person in people}


def balanced(groups: Mapping[str, Split], new: Sequence[SplitCandidate]) -> dict[str, Split]:
    """Move patients so that test and val are neither empty nor larger than the share MOST.

    Fewer than ENOUGH patients stay as they are. Only ``new`` patients are moved, in the order of
    most images, then largest place. If test or val is too large, its last patients go to train. If
    it is empty, it gets the first patient of train.
    """
    groups = dict(groups)
    if len(groups) < ENOUGH:
        return groups
    order = sorted(new, key=lambda person: (person.images, place(person.key)), reverse=True)
    wanted: tuple[Split, ...] = ("test", "val")
    most = max(1, round(MOST * len(groups)))
    for name in wanted:
        movable = [person.key for person in order if groups[person.key] == name]
        settled = list(groups.values()).count(name) - len(movable)
        for key in movable[max(most - settled, 0) :]:
            groups[key] = "train"
    for name in wanted:
        train = [person.key for person in order if groups[person.key] == "train"]
        if name not in groups.values() and train:
            groups[train[0]] = name
    return groups


def splits_of(entries: Mapping[str, Entry]) -> dict[str, Split]:
    """Return {patient's key without session: split} of a cohort."""
    return {
        name[:KEY] if name.startswith("p-") else name: entry.split
        for name, entry in entries.items()
    }


def place(key: str) -> float:
    """Return the place of a key in [0, 1), by its SHA-256."""
    return int(hashlib.sha256(key.encode()).hexdigest()[:8], 16) / 16**8


def _by_place(key: str) -> Split:
    return next((name for name, below in LIMITS.items() if place(key) < below), "test")


def _read(path: Path, split: str) -> dict[str, Split]:
    if not path.is_file():
        raise UserError(f"--split {split}: expected auto, train, val, test or a JSON file")
    try:
        groups = json.loads(path.read_text())
        named: dict[str, Split] = {}
        for group in SPLITS:
            if not isinstance(groups.get(group, []), list):
                raise ValueError(f"{group} is not a list")
            named |= dict.fromkeys(groups.get(group, []), group)
    except (OSError, ValueError, AttributeError, TypeError) as error:
        said = f"--split {split}: not readable as JSON {{split: [names]}} ({error})"
        raise UserError(said) from None
    return named
