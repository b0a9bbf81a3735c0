"""A cohort made of scans, or of virtual people: found, mapped to modalities, put on one grid."""

from __future__ import annotations

import dataclasses
import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from any2all_core.stack_format import Grid
from any2all_data.cohort_entry import Split
from any2all_data.kinds import NO_KINDS, Kinds, own_kinds, read_kinds, stack_format
from any2all_data.masks import find_masks
from any2all_data.people import Remark
from any2all_data.prepare import Outcome, Plan, VirtualPlan, prepare_all
from any2all_data.ranking import choose
from any2all_data.rules import Rule, modality_of, read_rules
from any2all_data.salt import find_salt, keep_salt
from any2all_data.sources import Source, find_sources, patient_key
from any2all_data.splits import Person, assigned, balanced, splits_of
from any2all_data.stacking import Preparation
from any2all_data.store import CohortStore
from any2all_operators import UserError

from any2all_app.observer import SILENT, Count, Observer

VIRTUAL_MODALITIES = ("T1", "FLAIR", "T2star", "CT", "PET")
PREPARING = "preparing"

Who = tuple[str, str]
"""A patient and a session, "" where sessions are joined, as the source names them; identifying."""


@dataclass(frozen=True)
class Preparing:
    """How a cohort is made.

    Parameters
    ----------
    modalities
        Their names, in order; None takes all that are found.
    rules
        A TOML file that maps series to modalities; None takes that of any2all-data.
    kinds
        A TOML file of modality kinds that the table of any2all-data lacks, or has otherwise. The
        cohort keeps them; None takes those that it has.
    spacing
        Voxels in mm, (x, y, z); None keeps those of the reference.
    size
        Rows and columns of a slice.
    reference
        The modality that others are registered to.
    split
        "train", "val" or "test" for all; "auto" by the pseudonym; or a JSON file {split: [names]}.
    salt
        File of the secret that names are hashed with; None takes COHORT.salt, or makes it.
    by_session
        Whether each session of a patient is by itself; otherwise they make one stack.
    replace
        Whether who is there with other files or options is prepared anew.
    preparation
        Registration, bias correction, seed, and NIfTI whose axes are not told.
    workers, scheduler
        Processes, one a core for None; or the address of a Dask scheduler.
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
    """Who a source holds, and which of their images would be which modality.

    ``sources``: all images of a patient; ``chosen``: those of each modality, the best first;
    ``keys``: pseudonyms, for good if ``kept``; ``groups``: {pseudonym: split}; ``modalities``:
    those of the cohort; ``before``: {pseudonym: split} of who is in it already; ``made``: the file
    of a new secret, and the secret; ``own``: modality kinds that the table lacks.
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

    def plans(self, reference: str) -> list[Plan]:
        """What is prepared of each patient who has one of the modalities."""
        return [
            Plan(
                self.keys[who],
                self.groups[patient_key(who[0], self.secret)],
                self.chosen[who],
                find_masks(self.sources[who], _session(self.chosen[who], reference)),
            )
            for who in sorted(self.sources)
            if self.chosen[who]
        ]


def find_patients(source: str | Path, cohort: str | None, preparing: Preparing) -> FoundPatients:
    """Look through a source's headers, and decide which image is which modality.

    Parameters
    ----------
    source
        A folder of DICOM, BIDS and NIfTI.
    cohort
        Path or URL of the cohort that they would go to, whose pseudonyms are used; None for none.
    preparing
        How a cohort is made.

    Raises
    ------
    UserError
        Where nothing is a known modality, or what was asked for is not there; in one line.
    """
    if cohort is not None and "://" not in cohort:
        _apart(Path(source), Path(cohort))
    before = None if cohort is None else CohortStore.find(cohort)
    own = _own_kinds(preparing, before)
    rules = read_rules(preparing.rules, own.values())
    sources, remarks = find_sources(Path(source))
    found = _found(sources, rules, own)
    if not found:
        raise UserError(
            f"{source}: {len(sources)} images, none of them a known modality; see "
            "--dry-run --show-names, and give --rules FILE"
        )
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
        who: choose([s for s in owned if not s.mask], rules, names, preparing.reference, own)
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
        groups=assigned(preparing.split, _everybody(chosen, secret), there),
        before=there,
        rules=rules,
        modalities=names,
        remarks=remarks,
        secret=secret,
        made=made,
        kept=cohort is not None or preparing.salt is not None,
    )


def without_reference(reference: str, found: FoundPatients) -> str:
    """No image is the reference: what there is instead, and what to do."""
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


def prepare(
    found: FoundPatients, cohort: str, preparing: Preparing, observer: Observer = SILENT
) -> list[Outcome]:
    """Make a cohort of the patients found, or add them to it.

    Parameters
    ----------
    found
        As of :func:`find_patients`, of the same cohort.
    cohort
        Path or URL of a new cohort, or of one to append to.
    preparing
        How a cohort is made.
    observer
        Is told of each patient.

    Returns
    -------
    list of Outcome
        Of each patient: prepared, unchanged, or refused and why.

    Raises
    ------
    UserError
        Where the cohort can't be made so, or is one of other images; in one line.
    """
    if preparing.reference not in found.modalities:
        raise UserError(without_reference(preparing.reference, found))
    if found.made:
        keep_salt(*found.made)
    try:
        store = _created(cohort, found.modalities, preparing, found.own)
    except UserError:
        if found.made:
            found.made[0].unlink()
        raise
    plans = found.plans(preparing.reference)
    outcomes = _prepared(plans, cohort, preparing, preparing.preparation, observer)
    _settle(store, outcomes, preparing, found.before)
    return outcomes


def prepare_virtual(
    cohort: str, count: int, preparing: Preparing, observer: Observer = SILENT
) -> list[Outcome]:
    """Make a cohort of ``count`` virtual people, the first of the preparation's seed.

    cohort, preparing, observer: as of :func:`prepare`. Raises UserError for modalities that
    virtual people do not have.
    """
    names = preparing.modalities or VIRTUAL_MODALITIES
    if count < 1 or not set(names) <= set(VIRTUAL_MODALITIES) or preparing.spacing is None:
        mm = "native" if preparing.spacing is None else ",".join(map(str, preparing.spacing))
        raise UserError(
            f"--virtual {count} with modalities {', '.join(names)} and spacing {mm}: expected at "
            f"least 1, some of {', '.join(VIRTUAL_MODALITIES)}, and a spacing"
        )
    if preparing.reference not in names:
        raise UserError(f"--reference {preparing.reference}: expected one of {', '.join(names)}")
    before = CohortStore.find(cohort)
    there = splits_of(before.patients()) if before else {}
    first = preparing.preparation.seed
    people = {f"virtual-{first + k:05d}": first + k for k in range(count)}
    groups = assigned(preparing.split, [Person(name, name, len(names)) for name in people], there)
    own = _own_kinds(preparing, before)
    store = _created(cohort, names, preparing, own, virtual=True)
    plans = [VirtualPlan(name, groups[name], k) for name, k in people.items()]
    outcomes = _prepared(plans, cohort, preparing, Preparation(), observer)
    _settle(store, outcomes, preparing, there)
    return outcomes


def _created(
    cohort: str,
    names: tuple[str, ...],
    preparing: Preparing,
    own: Kinds,
    *,
    virtual: bool = False,
) -> CohortStore:
    grid = Grid(preparing.spacing, preparing.reference)
    return CohortStore.create(cohort, stack_format(names, preparing.size, grid, own), virtual)


def _own_kinds(preparing: Preparing, before: CohortStore | None) -> Kinds:
    """The kinds that are given, or else those of the cohort that is there."""
    if preparing.kinds is not None:
        return read_kinds(preparing.kinds)
    return NO_KINDS if before is None else own_kinds(before.format)


def _prepared(
    plans: Sequence[Plan | VirtualPlan],
    cohort: str,
    preparing: Preparing,
    preparation: Preparation,
    observer: Observer,
) -> list[Outcome]:
    outcomes, done = [], Count(observer, PREPARING, len(plans))
    workers = min(preparing.workers or os.cpu_count() or 1, len(plans))
    found = prepare_all(plans, cohort, preparation, workers, preparing.scheduler, preparing.replace)
    for outcome in found:
        outcomes.append(outcome)
        done()
        if outcome.status == "refused":
            observer.say(f"{outcome.patient} refused: {outcome.reason}")
    return sorted(outcomes, key=lambda outcome: outcome.patient)


def _settle(
    store: CohortStore,
    outcomes: Sequence[Outcome],
    preparing: Preparing,
    before: Mapping[str, Split],
) -> None:
    """Balance the splits of who is new, where they are automatic, and fit what training needs."""
    if preparing.split == "auto":
        _balance(store, outcomes, before)
    store.fit()


def _found(sources: list[Source], rules: list[Rule], own: Kinds) -> tuple[str, ...]:
    """The modalities there are, T1 first, then as the rules name them; one's own kinds last."""
    there = {modality_of(source.tags, rules) for source in sources} - {""}
    order = list(dict.fromkeys(rule.modality for rule in rules))
    return tuple(sorted(there, key=lambda name: (name != "T1", name in own, order.index(name))))


def _everybody(
    chosen: Mapping[tuple[str, str], Mapping[str, Sequence[Source]]], secret: bytes
) -> list[Person]:
    """The patients, whatever their sessions, who have an image of some modality."""
    images: dict[str, int] = {}
    for (patient, _), found in chosen.items():
        if found:
            images[patient] = max(len(found), images.get(patient, 0))
    return [Person(name, patient_key(name, secret), count) for name, count in images.items()]


def _session(chosen: Mapping[str, Sequence[Source]], reference: str) -> str | None:
    """That of the reference's image, or of the first there is."""
    ranked = chosen.get(reference) or next(iter(chosen.values()))
    return ranked[0].session or None


def _balance(store: CohortStore, outcomes: Sequence[Outcome], before: Mapping[str, Split]) -> None:
    """Put others who are new in test and val, where those who were to be there were refused."""
    entries = store.patients()
    groups = splits_of(entries)
    done = {o.patient: o.entry for o in outcomes if o.status == "prepared" and o.entry}
    new = [
        Person(key, key, max(len(e.present) for p, e in done.items() if p.startswith(key)))
        for key in splits_of(done)
        if key not in before
    ]
    changed = balanced(groups, new)
    for patient, entry in entries.items():
        key = next(iter(splits_of({patient: entry})))
        if changed[key] != entry.split:
            store.update(patient, dataclasses.replace(entry, split=changed[key]))


def _apart(source: Path, cohort: Path) -> None:
    """The cohort must not be made in the source, or around it."""
    one, other = source.resolve(), cohort.resolve()
    if one.is_relative_to(other) or other.is_relative_to(one):
        raise UserError(f"prepare {source} {cohort}: one is in the other; choose another COHORT")
