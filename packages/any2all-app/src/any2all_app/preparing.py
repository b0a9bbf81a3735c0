"""A cohort made of scans that were found, or of virtual people."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence

from any2all_core.stack_format import Grid
from any2all_data.cohort_entry import Split
from any2all_data.kinds import Kinds, stack_format
from any2all_data.prepare import Outcome, Plan, VirtualPlan, prepare_all
from any2all_data.salt import keep_salt
from any2all_data.splits import Person, assigned, balanced, splits_of
from any2all_data.stacking import Preparation
from any2all_data.store import CohortStore
from any2all_operators import UserError

from any2all_app.finding import FoundPatients, Preparing, given_kinds, without_reference
from any2all_app.observer import SILENT, Count, Observer

VIRTUAL_MODALITIES = ("T1", "FLAIR", "T2star", "CT", "PET")
PREPARING = "preparing"


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
    own = given_kinds(preparing, before)
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
