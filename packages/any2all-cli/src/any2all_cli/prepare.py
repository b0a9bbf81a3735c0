"""``any2all prepare``."""

from __future__ import annotations

import dataclasses
import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from any2all_app.grammar import modality_names, slice_size
from any2all_app.terminal import progress_bar
from any2all_data.masks import find_masks
from any2all_data.prepare import ALWAYS_NOTED, Outcome, Plan, VirtualPlan, prepare_all
from any2all_data.ranking import choose
from any2all_data.rules import Rule, modality_of, read_rules
from any2all_data.sources import Source, find_sources, patient_key
from any2all_data.stacking import Preparation
from any2all_data.store import CohortSettings, CohortStore, Split
from any2all_operators import UserError
from rich.console import Console
from rich.markup import escape

from any2all_cli.salt import find_salt, keep_salt
from any2all_cli.source_table import doubts_of, source_table, tell_remarks, warn, without_reference
from any2all_cli.splits import Person, assigned, balanced, splits_of
from any2all_cli.summary import printed, show

VIRTUAL_MODALITIES = ("T1", "FLAIR", "T2star", "CT", "PET")
SPACINGS = (0.05, 50.0)  # mm


def run(
    paths: list[str],
    modalities: str | None,
    rules: Path | None,
    spacing: str,
    size: str,
    reference: str,
    split: str,
    salt: Path | None,
    register: bool,
    bias_correct: bool,
    by_session: bool,
    replace: bool,
    virtual: int | None,
    seed: int,
    workers: int | None,
    scheduler: str | None,
    dry_run: bool,
    show_names: bool,
    trust_axes: bool,
) -> bool:
    """Find, map and prepare patients; False when a patient was refused."""
    console = Console(stderr=True)
    wanted = 1 if virtual is not None or dry_run else 2
    if len(paths) < wanted or len(paths) > 2 or (virtual is not None and len(paths) != 1):
        raise UserError(
            f"prepare {' '.join(paths)}: expected SOURCE COHORT, or --virtual N COHORT, or "
            "--dry-run SOURCE"
        )
    url = paths[-1]
    grid = None if spacing == "native" else _spacing(spacing)
    rows_columns = slice_size(size, "--size")
    only = modality_names(modalities) if modalities else None
    before = CohortStore.find(url) if len(paths) == 2 or virtual is not None else None
    there = splits_of(before.patients()) if before else {}
    plans: list[Plan | VirtualPlan]
    if virtual is not None:
        names = only or VIRTUAL_MODALITIES
        if virtual < 1 or not set(names) <= set(VIRTUAL_MODALITIES) or grid is None:
            raise UserError(
                f"--virtual {virtual} with modalities {', '.join(names)} and spacing {spacing}: "
                f"expected at least 1, some of {', '.join(VIRTUAL_MODALITIES)}, and a spacing"
            )
        people = {f"virtual-{seed + k:05d}": seed + k for k in range(virtual)}
        virtually = [Person(name, name, len(names)) for name in people]
        groups = assigned(split, virtually, there)
        plans = [VirtualPlan(name, groups[name], k) for name, k in people.items()]
        preparation, made = Preparation(), None
    else:
        if len(paths) == 2 and "://" not in url:
            _apart(Path(paths[0]), Path(url))
        applied = read_rules(rules)
        with console.status("looking through headers"):
            sources, remarks = find_sources(Path(paths[0]))
        found = _found(sources, applied)
        if not found:
            raise UserError(
                f"{paths[0]}: {len(sources)} images, none of them a known modality; see "
                "--dry-run --show-names, and give --rules FILE"
            )
        settled = before.settings.modalities if before else ()
        names = only or settled or found
        if not settled and not set(names) <= set(found):
            missing = ", ".join(sorted(set(names) - set(found)))
            raise UserError(f"--modalities: no {missing}; the source has {', '.join(found)}")
        if reference not in names and not dry_run:
            raise UserError(without_reference(reference, names, sources, applied))
        secret, made = find_salt(url, salt, kept=not dry_run or len(paths) == 2)
        patients: dict[tuple[str, str], list[Source]] = defaultdict(list)
        for source in sources:
            patients[source.patient, source.session if by_session else ""].append(source)
        keys = {
            (patient, session): patient_key(patient, secret, session if by_session else None)
            for patient, session in patients
        }
        chosen = {
            one: choose([s for s in owned if not s.mask], applied, names, reference)
            for one, owned in patients.items()
        }
        everybody = _everybody(chosen, secret)
        groups = assigned(split, everybody, there)
        if dry_run:
            if made:
                keep_salt(*made)
            printed(source_table(patients, keys, chosen, applied, reference, show_names))
            shown = {one: " ".join(one).strip() if show_names else keys[one] for one in chosen}
            warn(
                console, {shown[one]: doubts_of(found, reference) for one, found in chosen.items()}
            )
            if not made and len(paths) == 1 and salt is None:
                console.print("pseudonyms of this run alone: give COHORT for those of prepare")
            tell_remarks(console, remarks, show_names)
            if reference not in names:
                said = without_reference(reference, names, sources, applied)
                console.print(escape(said), soft_wrap=True)
            return True
        plans = [
            Plan(
                keys[one],
                groups[patient_key(one[0], secret)],
                chosen[one],
                find_masks(patients[one], _session(chosen[one], reference)),
            )
            for one in sorted(patients)
            if chosen[one]
        ]
        tell_remarks(console, remarks, False)
        if unknown := len(patients) - len(plans):
            console.print(f"{unknown} patients have none of {', '.join(names)}; see --dry-run")
        preparation = Preparation(register, bias_correct, seed, trust_axes)
    if reference not in names:
        raise UserError(f"--reference {reference}: expected one of {', '.join(names)}")
    settings = CohortSettings(names, rows_columns, grid, reference, virtual is not None)
    if made:
        keep_salt(*made)
    try:
        store = CohortStore.create(url, settings)
    except UserError:
        if made:
            made[0].unlink()
        raise
    outcomes = _prepare(plans, url, preparation, workers, scheduler, replace)
    if split == "auto":
        _balance(store, outcomes, there)
    store.fit()
    show(store, outcomes)
    _tell(console, outcomes, url)
    return all(outcome.status != "refused" for outcome in outcomes)


def _prepare(
    plans: list[Plan | VirtualPlan],
    url: str,
    preparation: Preparation,
    workers: int | None,
    scheduler: str | None,
    anew: bool,
) -> list[Outcome]:
    outcomes = []
    with progress_bar(Console(stderr=True), "preparing") as bar:
        task = bar.add_task("", total=len(plans))
        count = min(workers or os.cpu_count() or 1, len(plans))
        for outcome in prepare_all(plans, url, preparation, count, scheduler, anew):
            outcomes.append(outcome)
            bar.advance(task)
            for said in _findings(outcome):
                bar.console.print(escape(f"{outcome.patient} {said}"), soft_wrap=True)
    return sorted(outcomes, key=lambda outcome: outcome.patient)


def _findings(outcome: Outcome) -> list[str]:
    """Why a patient was refused, or what was mended, assumed or left out of it."""
    if outcome.status == "refused":
        return [f"refused: {outcome.reason}"]
    if outcome.status == "unchanged" or outcome.entry is None:
        return []
    left_out = [f"{name} left out: {why}" for name, why in outcome.entry.left_out.items()]
    return left_out + [note for note in outcome.entry.notes if note not in ALWAYS_NOTED]


def _tell(console: Console, outcomes: list[Outcome], url: str) -> None:
    counts = {s: sum(o.status == s for o in outcomes) for s in ("prepared", "unchanged", "refused")}
    said = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
    aside = [f"{o.patient}:{m}" for o in outcomes if o.entry for m in o.entry.aside]
    console.print(escape(f"{said}; cohort in {url}"), soft_wrap=True)
    warn(console, {o.patient: o.entry.warnings for o in outcomes if o.entry})
    if aside:
        console.print(
            f"{len(aside)} images set aside, their registration is doubtful: look at "
            f"any2all cohort {escape(url)} --qc DIR, then --accept {aside[0]} or leave it",
            soft_wrap=True,
        )
    if any(o.entry and any("not defaced" in note for note in o.entry.notes) for o in outcomes):
        console.print("faces are as in the source: deface them before you share the cohort")


def _spacing(text: str) -> tuple[float, float, float]:
    try:
        x, y, z = (float(part) for part in text.split(","))
    except ValueError:
        raise UserError(f"--spacing {text}: expected native, or mm as 1.875,1.875,3") from None
    least, most = SPACINGS
    if not all(least <= step <= most for step in (x, y, z)):
        raise UserError(f"--spacing {text}: expected mm from {least:g} to {most:g}")
    return x, y, z


def _found(sources: list[Source], rules: list[Rule]) -> tuple[str, ...]:
    """The modalities there are, T1 first, then as the rules name them."""
    there = {modality_of(source.tags, rules) for source in sources} - {""}
    order = list(dict.fromkeys(rule.modality for rule in rules))
    return tuple(sorted(there, key=lambda name: (name != "T1", order.index(name))))


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
