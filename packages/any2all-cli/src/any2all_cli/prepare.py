"""``any2all prepare``."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections import defaultdict
from pathlib import Path
from typing import get_args

from any2all_data.prepare import Outcome, Plan, Preparation, VirtualPlan, prepare_all
from any2all_data.sources import (
    Rule,
    Source,
    choose,
    find_sources,
    modality_of,
    patient_key,
    read_rules,
)
from any2all_data.store import SPLITS, CohortSettings, CohortStore, Split, is_cohort
from any2all_operators import UserError
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

VIRTUAL_MODALITIES = ("T1", "FLAIR", "T2star", "CT", "PET")
SHARES = {"train": 0.8, "val": 0.1, "test": 0.1}
"""Of the patients, by their hashed names, so that a patient's split never changes."""


def run(
    paths: list[str],
    modalities: str | None,
    rules: Path | None,
    spacing: str,
    size: int,
    reference: str,
    split: str,
    salt: Path | None,
    register: bool,
    bias_correct: bool,
    virtual: int | None,
    seed: int,
    workers: int | None,
    scheduler: str | None,
    dry_run: bool,
    show_names: bool,
) -> bool:
    """Find, map and prepare patients; False when a patient was refused."""
    console = Console(stderr=True)
    wanted = 1 if virtual is not None or dry_run else 2
    if len(paths) < wanted or len(paths) > 2 or (virtual is not None and len(paths) != 1):
        raise UserError(
            f"prepare {' '.join(paths)}: expected SOURCE COHORT, or --virtual N COHORT, or "
            "--dry-run SOURCE"
        )
    if split != "auto" and split not in SPLITS and not Path(split).is_file():
        raise UserError(f"--split {split}: expected auto, train, val, test or a JSON file")
    url = paths[-1]
    grid = None if spacing == "native" else _spacing(spacing)
    plans: list[Plan | VirtualPlan]
    names: tuple[str, ...]
    if virtual is not None:
        names = tuple(modalities.split(",")) if modalities else VIRTUAL_MODALITIES
        if virtual < 1 or not set(names) <= set(VIRTUAL_MODALITIES) or grid is None:
            raise UserError(
                f"--virtual {virtual} with modalities {', '.join(names)} and spacing {spacing}: "
                f"expected at least 1, some of {', '.join(VIRTUAL_MODALITIES)}, and a spacing"
            )
        people = [f"virtual-{seed + k:05d}" for k in range(virtual)]
        plans = [
            VirtualPlan(name, _split(split, name, name), seed + k) for k, name in enumerate(people)
        ]
    else:
        with console.status("looking through headers"):
            sources, refused = find_sources(Path(paths[0]))
        patients: dict[str, list[Source]] = defaultdict(list)
        for source in sources:
            patients[source.patient].append(source)
        applied = read_rules(rules)
        found = _found(sources, applied)
        if not found:
            raise UserError(
                f"{paths[0]}: {len(sources)} images, none of them a known modality; see "
                "--dry-run --show-names, and give --rules FILE"
            )
        names = tuple(modalities.split(",")) if modalities else found
        if not set(names) <= set(found):
            missing = ", ".join(sorted(set(names) - set(found)))
            raise UserError(f"--modalities: no {missing}; the source has {', '.join(found)}")
        key = _salt(url, salt, dry_run)
        keys = {patient: patient_key(patient, key) for patient in patients}
        if dry_run:
            Console().print(_mapping(patients, keys, applied, names, show_names))
            for line in refused:
                console.print(escape(f"damaged: {line if show_names else line.split(': ')[-1]}"))
            return True
        plans = []
        for patient, owned in sorted(patients.items()):
            chosen = choose(owned, applied, names)
            if chosen:
                plans.append(Plan(keys[patient], _split(split, patient, keys[patient]), chosen))
        if refused:
            console.print(f"{len(refused)} damaged files left out")
    if reference not in names:
        raise UserError(f"--reference {reference}: not one of {', '.join(names)}")
    settings = CohortSettings(names, (size, size), grid, reference, virtual is not None)
    store = CohortStore.create(url, settings)
    outcomes = _prepare(plans, url, Preparation(register, bias_correct, seed), workers, scheduler)
    store.fit()
    _tell(console, outcomes, url)
    return all(outcome.status != "refused" for outcome in outcomes)


def _prepare(
    plans: list[Plan | VirtualPlan],
    url: str,
    preparation: Preparation,
    workers: int | None,
    scheduler: str | None,
) -> list[Outcome]:
    columns = (
        TextColumn("preparing"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    outcomes = []
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=len(plans))
        count = min(workers or os.cpu_count() or 1, len(plans))
        for outcome in prepare_all(plans, url, preparation, count, scheduler):
            outcomes.append(outcome)
            bar.advance(task)
            if outcome.status == "refused":
                bar.console.print(escape(f"{outcome.patient} refused: {outcome.reason}"))
    return sorted(outcomes, key=lambda outcome: outcome.patient)


def _tell(console: Console, outcomes: list[Outcome], url: str) -> None:
    counts = {s: sum(o.status == s for o in outcomes) for s in ("prepared", "unchanged", "refused")}
    said = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
    aside = [f"{o.patient}:{m}" for o in outcomes if o.entry for m in o.entry.aside]
    console.print(f"{said}; cohort in {url}", soft_wrap=True)
    if aside:
        console.print(
            f"{len(aside)} images set aside, their registration is doubtful: look at "
            f"any2all cohort {url} --qc DIR, then --accept {aside[0]} or leave it",
            soft_wrap=True,
        )
    if any(o.entry and any("not defaced" in note for note in o.entry.notes) for o in outcomes):
        console.print("faces are as in the source: deface them before you share the cohort")


def _spacing(text: str) -> tuple[float, float, float]:
    try:
        x, y, z = (float(part) for part in text.split(","))
    except ValueError:
        raise UserError(f"--spacing {text}: expected native, or mm as 1.875,1.875,3") from None
    if min(x, y, z) <= 0:
        raise UserError(f"--spacing {text}: expected mm above 0")
    return x, y, z


def _found(sources: list[Source], rules: list[Rule]) -> tuple[str, ...]:
    """The modalities there are, T1 first, then as the rules name them."""
    there = {modality_of(source.tags, rules) for source in sources} - {""}
    order = list(dict.fromkeys(rule.modality for rule in rules))
    return tuple(sorted(there, key=lambda name: (name != "T1", order.index(name))))


def _split(split: str, patient: str, key: str) -> Split:
    """The split of a patient: one for all, by a JSON file {split: [patients]}, or by its hash."""
    if split in get_args(Split):
        return split  # type: ignore[return-value]
    if split == "auto":
        place = int(hashlib.sha256(key.encode()).hexdigest()[:8], 16) / 16**8
        below = 0.0
        for name, share in SHARES.items():
            below += share
            if place < below:
                return name  # type: ignore[return-value]
        return "test"
    try:
        groups = json.loads(Path(split).read_text())
        for name in SPLITS:
            if patient in groups.get(name, []):
                return name
    except (OSError, ValueError, AttributeError, TypeError) as error:
        said = f"--split {split}: not readable as JSON {{split: [names]}} ({error})"
        raise UserError(said) from None
    raise UserError(f"--split {split}: {key} is in none of its groups")


def _salt(url: str, path: Path | None, dry_run: bool) -> bytes:
    """The secret that patients' names are hashed with, made on first use."""
    if path is None and "://" in url:
        raise UserError(f"{url}: give --salt FILE to keep the secret that names are hashed with")
    path = path or Path(f"{url.rstrip('/')}.salt")
    if path.exists():
        return path.read_bytes()
    made = secrets.token_bytes(32)
    if "://" not in url and is_cohort(url):
        raise UserError(f"{path}: missing; without it {url} can't be appended to, give --salt FILE")
    if not dry_run:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(made)
    return made


def _mapping(
    patients: dict[str, list[Source]],
    keys: dict[str, str],
    rules: list[Rule],
    names: tuple[str, ...],
    show_names: bool,
) -> Table:
    table = Table("patient", "modality", "images", "kind", "series")
    for patient, owned in sorted(patients.items()):
        chosen = choose(owned, rules, names)
        for source in owned:
            name = modality_of(source.tags, rules)
            used = any(source is one for one in chosen.values())
            note = name if used else (f"({name}: another is used)" if name else "(left out)")
            table.add_row(
                escape(patient) if show_names else keys[patient],
                note,
                str(source.frames if source.series else len(source.files)),
                escape(source.tags.get("Modality", "")),
                escape(source.tags.get("text", ""))
                if show_names
                else escape(source.tags.get("SeriesNumber", "")),
            )
    return table
