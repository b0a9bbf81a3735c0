"""Find the patients of a source of scans, and assign their images to modalities."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from any2all_data.cohort_entry import Split
from any2all_data.kinds import NO_KINDS, Kinds, own_kinds, read_kinds
from any2all_data.masks import find_masks
from any2all_data.people import Remark
from any2all_data.prepare import FoundPlan
from any2all_data.ranking import choose
from any2all_data.rules import Rule, modality_of, read_rules
from any2all_data.salt import find_salt
from any2all_data.sources import Source, find_sources, patient_key
from any2all_data.splits import SplitCandidate, assigned, splits_of
from any2all_data.stacking import Preparation
from any2all_data.store import CohortStore
from any2all_operators import UserError

Who = tuple[str, str]
"""Patient and session as the source names them (identifying); "" if sessions are joined."""


@dataclass(frozen=True)
class Preparing:
    """Options for making a cohort.

    Parameters
    ----------
    modalities
        Names of the modalities in channel order; None takes all that are found.
    rules
        A TOML file that maps series to modalities; None takes the built-in rules.
    kinds
        A TOML file of modality kinds that extend or replace the built-in ones. The cohort stores
        them. None takes the kinds that the cohort has.
    spacing
        Voxel size in mm, (x, y, z); None keeps that of the reference.
    size
        Rows and columns of a slice.
    reference
        The modality to which the others are registered.
    split
        "train", "val" or "test" for all; "auto" by the pseudonym; or a JSON file {split: [names]}.
    salt
        File of the secret salt for pseudonyms; None takes COHORT.salt, or creates it.
    by_session
        Whether each session is a patient of its own; otherwise a patient's sessions make one stack.
    replace
        Whether a patient is prepared again when its files or options have changed.
    preparation
        Options of registration, bias correction, seed, and NIfTI files without orientation.
    workers, scheduler
        Number of processes, None for one per core; or the address of a Dask scheduler.
    """

    modalities: tuple[str, ...] | None = None
    rules: Path | None = None
    kinds: Path | None = None
    spacing: tuple[float, float, float] | None = (1.875, 1.875, 3.0)
    size: tuple[int, int] = (128, 128)
    reference: str = "T1"
    split: str = "auto"
    salt: Path | None = None
    by_session: bool = False
    replace: bool = False
    preparation: Preparation = field(default_factory=Preparation)
    workers: int | None = None
    scheduler: str | None = None


@dataclass(frozen=True)
class FoundPatients:
    """The patients of a source, and the modalities of their images.

    - ``sources``: all images of each patient. ``chosen`` are those of each modality, best first.
    - ``keys``: the pseudonyms, which are permanent if ``kept``.
    - ``own``: the user's modality kinds.
    - ``groups``: {pseudonym: split}. ``before`` is the same for patients already in the cohort.
    - ``modalities``: those of the cohort.
    - ``made``: the file of a new salt, and the salt; None if the salt is not new.
    """

    sources: dict[Who, list[Source]]
    chosen: dict[Who, dict[str, tuple[Source, ...]]]
    keys: dict[Who, str]
    own: Kinds
    groups: dict[str, Split]
    before: dict[str, Split]
    rules: list[Rule]
    modalities: tuple[str, ...]
    remarks: list[Remark]
    secret: bytes = field(repr=False)
    made: tuple[Path, bytes] | None = field(repr=False)
    kept: bool

    def plans(self, reference: str) -> list[FoundPlan]:
        """Return the plan of each patient who has one of the modalities."""
        return [
            FoundPlan(
                self.keys[who],
                self.groups[patient_key(who[0], self.secret)],
                self.chosen[who],
                find_masks(self.sources[who], _session(self.chosen[who], reference)),
            )
            for who in sorted(self.sources)
            if self.chosen[who]
        ]


def find_patients(source: str | Path, cohort: str | None, preparing: Preparing) -> FoundPatients:
    """Read a source's headers and assign each image to a modality.

    Parameters
    ----------
    source
        A folder of DICOM, BIDS and NIfTI.
    cohort
        Path or URL of the target cohort, whose pseudonyms are used; None if there is none.
    preparing
        Options for making the cohort.

    Returns
    -------
    FoundPatients
        The patients, their images by modality, pseudonyms and splits, and remarks on files.

    Raises
    ------
    UserError
        If no image is of a known modality, or a requested modality was not found.
    """
    if cohort is not None and "://" not in cohort:
        _check_apart(Path(source), Path(cohort))
    before = None if cohort is None else CohortStore.find(cohort)
    own = given_kinds(preparing, before)
    rules = read_rules(preparing.rules, own.values())
    sources, remarks = find_sources(Path(source))
    found = _found_modalities(sources, rules, own)
    if not found:
        raise UserError(
            f"{source}: has {len(sources)} images, none of a known modality; see "
            "--dry-run --show-names, and give --rules FILE"
        )
    if preparing.kinds is not None and (absent := [name for name in own if name not in found]):
        remarks = [*remarks, Remark("", f"--kinds: no image of {', '.join(absent)} was found")]
    settled = before.format.names if before else ()
    names = preparing.modalities or settled or found
    if not settled and not set(names) <= set(found):
        missing = ", ".join(sorted(set(names) - set(found)))
        raise UserError(f"--modalities: no {missing}; the source has {', '.join(found)}")
    secret, made = find_salt(cohort or str(source), preparing.salt, kept=cohort is not None)
    patients: dict[Who, list[Source]] = defaultdict(list)
    for one in sources:
        patients[one.patient, one.session if preparing.by_session else ""].append(one)
    chosen = {
        who: choose([s for s in owned if not s.mask], rules, names, preparing.reference, own=own)
        for who, owned in patients.items()
    }
    there = splits_of(before.patients()) if before else {}
    return FoundPatients(
        sources=dict(patients),
        chosen=chosen,
        keys={
            who: patient_key(who[0], secret, who[1] if preparing.by_session else None)
            for who in patients
        },
        own=own,
        groups=assigned(preparing.split, _split_candidates(chosen, secret), there),
        before=there,
        rules=rules,
        modalities=names,
        remarks=remarks,
        secret=secret,
        made=made,
        kept=cohort is not None or preparing.salt is not None,
    )


def without_reference(reference: str, found: FoundPatients) -> str:
    """Say that no image is the reference, what there is instead, and what to do."""
    patients: dict[str, set[str]] = defaultdict(set)
    sources = [source for owned in found.sources.values() for source in owned]
    for source in sources:
        patients[modality_of(source.tags, found.rules)].add(source.patient)
    there = ", ".join(f"{name} ({len(patients[name])} patients)" for name in found.modalities)
    unmapped = [s for s in sources if not modality_of(s.tags, found.rules) and not s.mask]
    rest = f" and {len(unmapped)} images of no known modality" if unmapped else ""
    return (
        f"--reference {reference}: no {reference} was found, but {there}{rest}. Map it with "
        f"--rules FILE (see --dry-run --show-names), or give --reference {found.modalities[0]}"
    )


def given_kinds(preparing: Preparing, before: CohortStore | None) -> Kinds:
    """Return the given kinds, or else those of the existing cohort."""
    if preparing.kinds is not None:
        return read_kinds(preparing.kinds)
    return NO_KINDS if before is None else own_kinds(before.format)


def _found_modalities(sources: list[Source], rules: list[Rule], own: Kinds) -> tuple[str, ...]:
    """Return the modalities found: T1 first, then in the rules' order, the user's kinds last."""
    there = {modality_of(source.tags, rules) for source in sources} - {""}
    order = list(dict.fromkeys(rule.modality for rule in rules))
    return tuple(sorted(there, key=lambda name: (name != "T1", name in own, order.index(name))))


def _split_candidates(
    chosen: Mapping[tuple[str, str], Mapping[str, Sequence[Source]]], secret: bytes
) -> list[SplitCandidate]:
    """Return the patients who have an image of some modality, with their sessions joined."""
    images: dict[str, int] = {}
    for (patient, _), found in chosen.items():
        if found:
            images[patient] = max(len(found), images.get(patient, 0))
    return [
        SplitCandidate(name, patient_key(name, secret), count) for name, count in images.items()
    ]


def _session(chosen: Mapping[str, Sequence[Source]], reference: str) -> str | None:
    """Return the session of the reference's image, or else of the first image."""
    ranked = chosen.get(reference) or next(iter(chosen.values()))
    return ranked[0].session or None


def _check_apart(source: Path, cohort: Path) -> None:
    """Raise UserError if the cohort lies in the source, or the source in the cohort."""
    one, other = source.resolve(), cohort.resolve()
    if one.is_relative_to(other) or other.is_relative_to(one):
        raise UserError(
            f"prepare {source} {cohort}: one lies inside the other; choose another COHORT"
        )
