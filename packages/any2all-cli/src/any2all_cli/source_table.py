"""What is shown of a source before it is prepared: which image would be which modality."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from any2all_data.people import Remark
from any2all_data.source_tree import counted
from any2all_data.sources import Rule, Source, modality_of
from rich.console import Console
from rich.markup import escape
from rich.table import Table

KINDS = ("MR", "CT", "PT")


def source_table(
    patients: Mapping[tuple[str, str], Sequence[Source]],
    keys: Mapping[tuple[str, str], str],
    chosen: Mapping[tuple[str, str], Mapping[str, Sequence[Source]]],
    rules: Sequence[Rule],
    show_names: bool,
) -> Table:
    """A row an image; without ``show_names`` nothing of it that may name somebody."""
    table = Table("patient", "modality", "images", "kind", "series")
    for one, owned in sorted(patients.items()):
        for source in owned:
            name = "" if source.mask else modality_of(source.tags, rules)
            ranked = chosen[one].get(name, ())
            use = f"({source.mask} mask)" if source.mask else "(left out)"
            use = f"({name}: another is used)" if name else use
            use = name if ranked and ranked[0] is source else use
            use += f": {source.lost}" if source.lost else ""
            kind = source.tags.get("Modality", "")
            described = source.tags.get("text" if show_names else "SeriesNumber", "")
            table.add_row(
                escape(" ".join(one)) if show_names else keys[one],
                use,
                str(source.frames if source.series else len(source.files)),
                kind if kind in KINDS else "other",
                escape(described if show_names or described.isdecimal() else ""),
            )
    return table


def without_reference(
    reference: str, names: Sequence[str], sources: Sequence[Source], rules: Sequence[Rule]
) -> str:
    """No image is the reference: what there is instead, and what to do."""
    patients: dict[str, set[str]] = defaultdict(set)
    for source in sources:
        patients[modality_of(source.tags, rules)].add(source.patient)
    found = ", ".join(f"{name} ({len(patients[name])} patients)" for name in names)
    unmapped = len([s for s in sources if not modality_of(s.tags, rules) and not s.mask])
    rest = f" and {unmapped} images of no known modality" if unmapped else ""
    return (
        f"--reference {reference}: no {reference} was found, but {found}{rest}. Map it with "
        f"--rules FILE (see --dry-run --show-names), or give --reference {names[0]}"
    )


def tell_remarks(console: Console, remarks: Sequence[Remark], show_names: bool) -> None:
    """What was left out or kept apart; how often, or with ``show_names`` where."""
    named = [f"{one.where}: {one.what}" if one.where else one.what for one in remarks]
    for line in named if show_names else counted(remarks):
        console.print(escape(line), soft_wrap=True)
