"""``any2all prepare``."""

from __future__ import annotations

from any2all_app.finding import FoundPatients, Preparing, find_patients, without_reference
from any2all_app.preparing import prepare
from any2all_app.terminal import observed
from any2all_app.virtual_people import prepare_virtual
from any2all_data.prepare import Outcome
from any2all_data.salt import keep_salt
from any2all_data.store import CohortStore
from any2all_operators import UserError
from rich.console import Console
from rich.markup import escape

from any2all_cli.source_table import doubts_of, source_table, tell_remarks, warn
from any2all_cli.summary import printed, show

SPACINGS = (0.05, 50.0)  # mm


def prepare_cohort(
    paths: list[str],
    preparing: Preparing,
    *,
    virtual: int | None,
    dry_run: bool,
    show_names: bool,
) -> bool:
    """Find, map and prepare patients. Return False if a patient was refused."""
    wanted = 1 if virtual is not None or dry_run else 2
    if len(paths) < wanted or len(paths) > 2 or (virtual is not None and len(paths) != 1):
        raise UserError(
            f"prepare {' '.join(paths)}: expected SOURCE COHORT, or --virtual N COHORT, or "
            "--dry-run SOURCE"
        )
    console, url = Console(stderr=True), paths[-1]
    with observed(console) as observer:
        if virtual is not None:
            outcomes = prepare_virtual(url, virtual, preparing, observer)
        else:
            with console.status("looking through headers"):
                found = find_patients(paths[0], url if len(paths) == 2 else None, preparing)
            if dry_run:
                return _shown(console, found, preparing, show_names)
            tell_remarks(console, found.remarks, False)
            if unknown := sum(not chosen for chosen in found.chosen.values()):
                names = ", ".join(found.modalities)
                observer.say(f"{unknown} patients have none of {names}; see --dry-run")
            outcomes = prepare(found, url, preparing, observer)
    show(CohortStore.open(url), outcomes)
    _tell(console, outcomes, url)
    return all(outcome.status != "refused" for outcome in outcomes)


def _shown(console: Console, found: FoundPatients, preparing: Preparing, show_names: bool) -> bool:
    """Show which image would be used as which modality. Keep the salt if a cohort was named."""
    if found.made:
        keep_salt(*found.made)
    reference = preparing.reference
    printed(source_table(found, reference, show_names))
    shown = {w: " ".join(w).strip() if show_names else found.keys[w] for w in found.chosen}
    doubts = {
        shown[who]: doubts_of(chosen, reference, found.own) for who, chosen in found.chosen.items()
    }
    warn(console, doubts)
    if not found.kept:
        console.print("these pseudonyms hold for this run only: give COHORT to see the cohort's")
    tell_remarks(console, found.remarks, show_names)
    if reference not in found.modalities:
        console.print(escape(without_reference(reference, found)), soft_wrap=True)
    return True


def _tell(console: Console, outcomes: list[Outcome], url: str) -> None:
    counts = {s: sum(o.status == s for o in outcomes) for s in ("prepared", "unchanged", "refused")}
    said = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
    aside = [f"{o.patient}:{m}" for o in outcomes if o.entry for m in o.entry.aside]
    console.print(escape(f"{said}; cohort in {url}"), soft_wrap=True)
    warn(console, {o.patient: o.entry.warnings for o in outcomes if o.entry})
    if aside:
        console.print(
            f"{len(aside)} images set aside because their registration is doubtful: check them "
            f"with any2all cohort {escape(url)} --qc DIR, and use one with --accept {aside[0]}",
            soft_wrap=True,
        )
    if any(o.entry and any("not defaced" in note for note in o.entry.notes) for o in outcomes):
        console.print("faces were not removed: deface the images before you share the cohort")


def spacing_of(text: str) -> tuple[float, float, float] | None:
    """Parse the voxel size "x,y,z" in mm; "native" gives None. Raises UserError."""
    if text == "native":
        return None
    try:
        x, y, z = (float(part) for part in text.split(","))
    except ValueError:
        raise UserError(
            f"--spacing {text}: expected native, or x,y,z in mm as 1.875,1.875,3"
        ) from None
    least, most = SPACINGS
    if not all(least <= step <= most for step in (x, y, z)):
        raise UserError(f"--spacing {text}: expected mm from {least:g} to {most:g}")
    return x, y, z
