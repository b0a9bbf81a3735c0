"""The table by which a person judges a preparation: patients, their images and remarks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from any2all_data.cohort_entry import ALWAYS_NOTED, SPLITS, Entry
from any2all_data.prepare import Outcome
from any2all_data.store import CohortStore
from rich.console import Console
from rich.markup import escape
from rich.table import Table

MOST_ROWS = 40
"""Maximum number of rows. Patients with remarks come first."""
WIDTH = 140
"""Width in characters if the output is not a terminal."""


def cells(entry: Entry, modalities: Sequence[str]) -> list[str]:
    """Format each modality's state: registration quality, set aside, drawn, left out or absent."""
    found = []
    for name in modalities:
        quality = entry.aside.get(name, entry.quality.get(name))
        if name in entry.aside:
            found.append(f"aside {quality:.2f}")
        elif name in entry.present:
            found.append("yes" if quality is None else f"{quality:.2f}")
        elif name in entry.drawn:
            found.append("drawn")
        else:
            found.append("left out" if name in entry.left_out else "–")
    return found


def said_of(entry: Entry) -> list[str]:
    """List what was set aside, left out, converted or chosen, one line each."""
    notes = [note for note in entry.notes if note not in ALWAYS_NOTED]
    aside = [f"{name} set aside: check its registration" for name in entry.aside]
    left_out = [f"{name} left out: {why}" for name, why in entry.left_out.items()]
    masks = [f"{name} on {modality}" for name, modality in entry.masks.items()]
    return [*aside, *left_out, *entry.warnings, *notes, *masks]


def table_of(
    entries: Mapping[str, Entry],
    modalities: Sequence[str],
    pages: Mapping[str, int],
    *,
    title: str,
    refused: Mapping[str, str] | None = None,
) -> Table:
    """Build the table: one row per patient with split, images, contact-sheet page and remarks.

    refused: {patient: reason} of the patients that this run refused.
    """
    refused = refused or {}
    rows = []
    for patient, entry in entries.items():
        said = [f"not prepared again: {refused[patient]}"] if patient in refused else []
        said += said_of(entry)
        page = str(pages[patient]) if patient in pages else "–"
        rows.append((patient, entry.split, *cells(entry, modalities), page, "\n".join(said)))
    for patient, why in refused.items():
        if patient not in entries:
            rows.append((patient, "–", *("–" for _ in modalities), "–", f"refused: {why}"))
    more = len(rows) - MOST_ROWS
    if more > 0:
        rows = sorted(rows, key=lambda row: not row[-1])[:MOST_ROWS]
    table = Table("patient", "split", *modalities, "page", "to look at", title=title)
    for row in rows:
        table.add_row(*map(escape, row))
    if more > 0:
        table.caption = f"{more} more patients; any2all cohort shows all"
    return table


def show(store: CohortStore, outcomes: Sequence[Outcome]) -> None:
    """Print the table of the patients that this run prepared, left unchanged or refused."""
    everybody = store.patients()
    entries = {o.patient: everybody[o.patient] for o in outcomes if o.patient in everybody}
    refused = {o.patient: o.reason for o in outcomes if o.status == "refused"}
    groups = Counter(entry.split for entry in everybody.values())
    title = f"{len(everybody)} patients in the cohort: " + ", ".join(
        f"{groups[split]} {split}" for split in SPLITS
    )
    modalities = store.format.names
    printed(table_of(entries, modalities, pages(everybody), title=title, refused=refused))


def pages(entries: Mapping[str, Entry]) -> dict[str, int]:
    """{patient: page of the sheets of ``any2all cohort --qc``}, counted from 1."""
    return {patient: k + 1 for k, patient in enumerate(entries)}


def printed(table: Table) -> None:
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH)
    console.print(table)
