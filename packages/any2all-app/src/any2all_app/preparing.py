"""Make a cohort from the scans that were found."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence

from any2all_core.stack_format import Grid
from any2all_data.cohort_entry import Split
from any2all_data.kinds import Kinds, stack_format
from any2all_data.prepare import Outcome, PatientPlan, prepare_all
from any2all_data.salt import keep_salt
from any2all_data.splits import SplitCandidate, balanced, splits_of
from any2all_data.store import CohortStore
from any2all_operators import UserError

from any2all_app.finding import FoundPatients, Preparing, without_reference
from any2all_app.observer import SILENT, Count, Observer

PREPARING = "preparing"


def prepare(
    found: FoundPatients, cohort: str, preparing: Preparing, observer: Observer = SILENT
) -> list[Outcome]:
    """Make a cohort of the patients found, or add them to it.

    Parameters
    ----------
    found
        The result of :func:`find_patients` for the same cohort.
    cohort
        Path or URL of a new cohort, or of one to append to.
    preparing
        Options for making the cohort.
    observer
        Receives the progress, and a message for each refused patient.

    Returns
    -------
    list of Outcome
        One per patient: prepared, unchanged, or refused with the reason.

    Raises
    ------
    UserError
        If the cohort can't be made with these options, or the existing one has other images.
    """
    if preparing.reference not in found.modalities:
        raise UserError(without_reference(preparing.reference, found))
    if found.made:
        keep_salt(*found.made)
    try:
        store = open_cohort(cohort, found.modalities, preparing, found.own)
    except UserError:
        if found.made:
            found.made[0].unlink()
        raise
    plans = found.plans(preparing.reference)
    outcomes = prepare_each(plans, cohort, preparing, observer)
    finish_cohort(store, outcomes, preparing, found.before)
    return outcomes


def open_cohort(
    cohort: str,
    names: tuple[str, ...],
    preparing: Preparing,
    own: Kinds,
    *,
    virtual: bool = False,
) -> CohortStore:
    """Create a cohort of these modalities, or open one with the same image format."""
    grid = Grid(preparing.spacing, preparing.reference)
    return CohortStore.create(cohort, stack_format(names, preparing.size, grid, own), virtual)


def prepare_each(
    plans: Sequence[PatientPlan], cohort: str, preparing: Preparing, observer: Observer
) -> list[Outcome]:
    """Prepare patients into an existing cohort. The outcomes are sorted by patient."""
    outcomes, done = [], Count(observer, PREPARING, len(plans))
    workers = min(preparing.workers or os.cpu_count() or 1, len(plans))
    found = prepare_all(
        plans,
        cohort,
        preparing.preparation,
        workers,
        scheduler=preparing.scheduler,
        anew=preparing.replace,
    )
    for outcome in found:
        outcomes.append(outcome)
        done()
        if outcome.status == "refused":
            observer.say(f"{outcome.patient} refused: {outcome.reason}")
    return sorted(outcomes, key=lambda outcome: outcome.patient)


def finish_cohort(
    store: CohortStore,
    outcomes: Sequence[Outcome],
    preparing: Preparing,
    before: Mapping[str, Split],
) -> None:
    """Balance automatic splits of new patients, and fit the ranges on the training group."""
    if preparing.split == "auto":
        _balance(store, outcomes, before)
    store.fit()


def _balance(store: CohortStore, outcomes: Sequence[Outcome], before: Mapping[str, Split]) -> None:
    """Move other new patients to test and val, if those planned for them were refused."""
    entries = store.patients()
    groups = splits_of(entries)
    done = {o.patient: o.entry for o in outcomes if o.status == "prepared" and o.entry}
    new = [
        SplitCandidate(key, key, max(len(e.present) for p, e in done.items() if p.startswith(key)))
        for key in splits_of(done)
        if key not in before
    ]
    changed = balanced(groups, new)
    for patient, entry in entries.items():
        key = next(iter(splits_of({patient: entry})))
        if changed[key] != entry.split:
            store.update(patient, dataclasses.replace(entry, split=changed[key]))
