"""Which patient is in train, val or test."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from any2all_operators import UserError

from any2all_data.cohort_entry import SPLITS, Entry, Split

LIMITS: dict[Split, float] = {"train": 0.8, "val": 0.9}
"""Of the place of a patient's key in [0, 1): below them the split's name, then test."""
ENOUGH = 5
"""Patients from which on there is somebody in val and test."""
MOST = 0.2
"""Share of all people that is in test, or in val, at most."""
KEY = 14
"""Characters of a patient's key; a session's are added."""


@dataclass(frozen=True)
class SplitCandidate:
    """A patient who has to be put into a split.

    name: as the source has it; key: the pseudonym; images: how many modalities there are.
    """

    name: str
    key: str
    images: int


def assigned(
    split: str, people: Sequence[SplitCandidate], before: Mapping[str, Split]
) -> dict[str, Split]:
    """{key: split} of people: one for all, by a JSON file {split: [names]}, or by key (auto).

    before: {key: split} of who is in the cohort. With auto they stay where they are; others go by
    their key's place, and so that neither test nor val is empty: see :func:`balanced`.
    Raises UserError for a split that isn't one.
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
    """Groups with somebody in test and val, and not too many, if there are ENOUGH people.

    Only those who are ``new`` are moved. First come who has most images, then the largest place:
    of those put in test or val by their place the last go to train beyond MOST of all people, and
    where nobody is in one of the two the first of train takes it.
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
    """{key of the patient, without session: split} of a cohort."""
    return {
        name[:KEY] if name.startswith("p-") else name: entry.split
        for name, entry in entries.items()
    }


def place(key: str) -> float:
    """The place of a key in [0, 1), by its SHA-256."""
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
                raise ValueError(f"{group} is no list")
            named |= dict.fromkeys(groups.get(group, []), group)
    except (OSError, ValueError, AttributeError, TypeError) as error:
        said = f"--split {split}: not readable as JSON {{split: [names]}} ({error})"
        raise UserError(said) from None
    return named
