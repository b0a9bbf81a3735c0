"""``any2all cohort``."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import torch
from any2all_app.folders import is_free, write_text
from any2all_data.kinds import own_kinds
from any2all_data.store import CohortStore
from any2all_operators import UserError
from rich.console import Console

from any2all_cli.summary import pages, printed, table_of


def show_cohort(url: str, qc: Path | None, accept: list[str], json_: bool) -> None:
    """List a cohort's patients, write contact sheets, and accept doubtful registrations."""
    store = CohortStore.open(url, writable=bool(accept))
    for choice in accept:
        patient, _, name = choice.partition(":")
        entry = store.entry(patient)
        if entry is None or name not in entry.aside:
            raise UserError(
                f"--accept {choice}: not set aside; expected a PATIENT:MODALITY that is set aside"
            )
        order = store.format.names.index
        store.update(
            patient,
            replace(
                entry,
                present=sorted([*entry.present, name], key=order),
                aside={m: q for m, q in entry.aside.items() if m != name},
                drawn=[],  # without knowing it
                drawn_by={},
                notes=[*entry.notes, f"{name} accepted by hand, quality {entry.aside[name]}"],
            ),
        )
    entries = store.patients()
    if json_:
        print(json.dumps({patient: asdict(entry) for patient, entry in entries.items()}, indent=2))
    else:
        title = f"{len(entries)} patients" + (", all virtual" if store.virtual else "")
        printed(table_of(entries, store.format.names, pages(entries), title=title))
    if qc is not None:
        _sheets(store, qc)


def _sheets(store: CohortStore, folder: Path) -> None:
    """Write one contact sheet per patient, with the reference's edges, and the histograms."""
    from any2all_cli.qc import alignment_sheet, histograms, index

    if not is_free(folder):
        raise UserError(f"{folder}: exists and is not an empty folder; choose another --qc")
    folder.mkdir(parents=True, exist_ok=True)
    stacks, format_ = {}, store.format
    entries = store.patients()
    numbers = pages(entries)
    for patient, page in numbers.items():
        entry = entries[patient]
        there = (*entry.present, *entry.aside)
        scaled = (*format_.ranges, *entry.scale)
        shown = [m for m in format_.names if m in there and m in scaled]
        shown.sort(key=lambda m: m != entry.reference)
        if not shown:
            continue
        stacks[patient] = (shown, store.stack(patient, replace(entry, present=shown), shown))
        rows = [stacks[patient][1]]
        if entry.drawn:
            rows.append(store.stack(patient, replace(entry, present=[]), entry.drawn))
        title = f"page {page} of {len(entries)}   {patient}   {entry.split}"
        sheet = alignment_sheet(title, entry, shown, torch.cat(rows, 1), own=own_kinds(format_))
        sheet.save(folder / f"{patient}.png")
    histograms(stacks, store.format.names).save(folder / "histograms.png")
    write_text(folder / "index.html", index({patient: numbers[patient] for patient in stacks}))
    Console(stderr=True).print(
        f"{len(stacks)} contact sheets, index.html with all of them, histograms.png in {folder}"
    )
