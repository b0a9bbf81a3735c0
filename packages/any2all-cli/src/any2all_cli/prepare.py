"""``any2all prepare``."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from any2all_app.grammar import modality_names, slice_size
from any2all_app.terminal import progress_bar
from any2all_data.people import Remark
from any2all_data.prepare import (
    ALWAYS_NOTED,
    Outcome,
    Plan,
    Preparation,
    VirtualPlan,
    prepare_all,
)
from any2all_data.source_tree import counted
from any2all_data.sources import (
    LEAST_SALT,
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
from rich.table import Table

VIRTUAL_MODALITIES = ("T1", "FLAIR", "T2star", "CT", "PET")
LIMITS: dict[Split, float] = {"train": 0.8, "val": 0.9}
"""Of a hash of the patients' keys, in [0, 1), so that a patient's split never changes."""
KINDS = ("MR", "CT", "PT")
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
    groups = _groups(split)
    only = modality_names(modalities) if modalities else None
    plans: list[Plan | VirtualPlan]
    if virtual is not None:
        names = only or VIRTUAL_MODALITIES
        if virtual < 1 or not set(names) <= set(VIRTUAL_MODALITIES) or grid is None:
            raise UserError(
                f"--virtual {virtual} with modalities {', '.join(names)} and spacing {spacing}: "
                f"expected at least 1, some of {', '.join(VIRTUAL_MODALITIES)}, and a spacing"
            )
        people = {f"virtual-{seed + k:05d}": seed + k for k in range(virtual)}
        plans = [VirtualPlan(name, groups(name, name), k) for name, k in people.items()]
        preparation, made = Preparation(), None
    else:
        applied = read_rules(rules)
        with console.status("looking through headers"):
            sources, remarks = find_sources(Path(paths[0]))
        found = _found(sources, applied)
        if not found:
            raise UserError(
                f"{paths[0]}: {len(sources)} images, none of them a known modality; see "
                "--dry-run --show-names, and give --rules FILE"
            )
        before = CohortStore.find(url) if len(paths) == 2 else None
        there = before.settings.modalities if before else ()
        names = only or there or found
        if not there and not set(names) <= set(found):
            missing = ", ".join(sorted(set(names) - set(found)))
            raise UserError(f"--modalities: no {missing}; the source has {', '.join(found)}")
        secret, made = _salt(url, salt, dry_run)
        patients: dict[tuple[str, str], list[Source]] = defaultdict(list)
        for source in sources:
            patients[source.patient, source.session if by_session else ""].append(source)
        keys = {
            (patient, session): patient_key(patient, secret, session if by_session else None)
            for patient, session in patients
        }
        chosen = {one: choose(owned, applied, names, reference) for one, owned in patients.items()}
        if dry_run:
            Console().print(_mapping(patients, keys, chosen, applied, show_names))
            _tell_remarks(console, remarks, show_names)
            return True
        plans = [
            Plan(keys[one], groups(one[0], patient_key(one[0], secret)), chosen[one])
            for one in sorted(patients)
            if chosen[one]
        ]
        _tell_remarks(console, remarks, False)
        if unknown := len(patients) - len(plans):
            console.print(f"{unknown} patients have none of {', '.join(names)}; see --dry-run")
        preparation = Preparation(register, bias_correct, seed, trust_axes)
    if reference not in names:
        raise UserError(f"--reference {reference}: not one of {', '.join(names)}")
    if virtual is None and "://" not in url:
        _apart(Path(paths[0]), Path(url))
    settings = CohortSettings(names, rows_columns, grid, reference, virtual is not None)
    if made:
        _keep(*made)
    try:
        store = CohortStore.create(url, settings)
    except UserError:
        if made:
            made[0].unlink()
        raise
    outcomes = _prepare(plans, url, preparation, workers, scheduler, replace)
    store.fit()
    _tell(console, outcomes, url)
    return all(outcome.status != "refused" for outcome in outcomes)


def _tell_remarks(console: Console, remarks: Sequence[Remark], show_names: bool) -> None:
    """What was left out or kept apart; how often, or with ``show_names`` where."""
    named = [f"{one.where}: {one.what}" if one.where else one.what for one in remarks]
    for line in named if show_names else counted(remarks):
        console.print(escape(line), soft_wrap=True)


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


def _groups(split: str) -> Callable[[str, str], Split]:
    """The split of a patient by name and key.

    One for all; by the key's hash (auto); or by a JSON file {split: [names]}.
    """
    if split in SPLITS:
        return lambda patient, key: split
    if split == "auto":
        return lambda patient, key: _by_hash(key)
    path = Path(split)
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

    def by_file(patient: str, key: str) -> Split:
        if patient not in named:
            raise UserError(f"--split {split}: {key} is in none of its groups")
        return named[patient]

    return by_file


def _by_hash(key: str) -> Split:
    place = int(hashlib.sha256(key.encode()).hexdigest()[:8], 16) / 16**8
    for name, below in LIMITS.items():
        if place < below:
            return name
    return "test"


def _apart(source: Path, cohort: Path) -> None:
    """The cohort must not be made in the source, or around it."""
    one, other = source.resolve(), cohort.resolve()
    if one.is_relative_to(other) or other.is_relative_to(one):
        raise UserError(f"prepare {source} {cohort}: one is in the other; choose another COHORT")


def _salt(url: str, path: Path | None, dry_run: bool) -> tuple[bytes, tuple[Path, bytes] | None]:
    """The secret that patients' names are hashed with; where it is new, the file to keep it in."""
    if path is None and "://" in url and not dry_run:
        raise UserError(f"{url}: give --salt FILE to keep the secret that names are hashed with")
    path = path or Path(f"{url.rstrip('/')}.salt")
    if path.exists():
        secret = path.read_bytes() if path.is_file() else b""
        if len(secret) < LEAST_SALT:
            raise UserError(
                f"--salt {path}: {len(secret)} bytes; expected a file of {LEAST_SALT} or more, or "
                "none, to have one made"
            )
        return secret, None
    made = secrets.token_bytes(32)
    if "://" not in url and is_cohort(url) and not dry_run:
        raise UserError(f"{path}: missing; without it {url} can't be appended to, give --salt FILE")
    return made, None if dry_run else (path, made)


def _keep(path: Path, secret: bytes) -> None:
    """Write a new secret, readable by its owner alone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(secret)


def _mapping(
    patients: Mapping[tuple[str, str], Sequence[Source]],
    keys: Mapping[tuple[str, str], str],
    chosen: Mapping[tuple[str, str], Mapping[str, Sequence[Source]]],
    rules: Sequence[Rule],
    show_names: bool,
) -> Table:
    table = Table("patient", "modality", "images", "kind", "series")
    for one, owned in sorted(patients.items()):
        for source in owned:
            name = modality_of(source.tags, rules)
            ranked = chosen[one].get(name, ())
            use = f"({name}: another is used)" if name else "(left out)"
            kind = source.tags.get("Modality", "")
            described = source.tags.get("text" if show_names else "SeriesNumber", "")
            table.add_row(
                escape(" ".join(one)) if show_names else keys[one],
                name if ranked and ranked[0] is source else use,
                str(source.frames if source.series else len(source.files)),
                kind if kind in KINDS else "other",
                escape(described if show_names or described.isdecimal() else ""),
            )
    return table
