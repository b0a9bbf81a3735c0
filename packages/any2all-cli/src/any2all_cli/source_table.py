"""The table shown before a source is prepared: which image would be used as which modality."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from any2all_app.finding import FoundPatients
from any2all_data.kinds import Kinds, kind_of
from any2all_data.people import Remark
from any2all_data.ranking import doubts, open_questions, preferred_session, weighed, why_later
from any2all_data.rules import modality_of
from any2all_data.source_tree import counted
from any2all_data.sources import Source
from rich.console import Console
from rich.markup import escape
from rich.table import Table

DICOM_MODALITIES = ("MR", "CT", "PT")
MOST_NAMED = 5
"""Maximum number of patients named in one warning."""

Chosen = Mapping[str, Sequence[Source]]
"""{modality: a patient's images of it}, the best image first."""


def source_table(found: FoundPatients, reference: str, show_names: bool) -> Table:
    """Build the table: one row per image, with its modality or the reason why it is not used.

    Without ``show_names`` the table shows nothing that may identify a patient.
    """
    table = Table("patient", "modality", "images", "kind", "series")
    for one, owned in sorted(found.sources.items()):
        for source in owned:
            use = f"({source.mask} mask)" if source.mask else ""
            use = use or _use(source, found, found.chosen[one], reference)
            use += f": {source.lost}" if source.lost else ""
            kind = source.tags.get("Modality", "")
            described = source.shown if show_names else source.tags.get("SeriesNumber", "")
            table.add_row(
                escape(" ".join(one)) if show_names else found.keys[one],
                use,
                str(source.frames if source.series else len(source.files)),
                kind if kind in DICOM_MODALITIES else "other",
                escape(described if show_names or described.isdecimal() else ""),
            )
    return table


def _use(source: Source, found: FoundPatients, chosen: Chosen, reference: str) -> str:
    name = modality_of(source.tags, found.rules)
    if not name:
        return "(left out)"
    ranked = chosen.get(name, ())
    if not ranked:
        return f"({name}: not asked for)"
    if ranked[0] is source:
        return name
    session = preferred_session(chosen, reference, name)
    why = why_later(ranked[0], source, kind_of(name, found.own), session)
    return f"({name}: another is used, {why})"


def doubts_of(chosen: Chosen, reference: str, own: Kinds) -> list[str]:
    """List the doubts about the images that would be used."""
    said = []
    for name, found in chosen.items():
        kind, session = kind_of(name, own), preferred_session(chosen, reference, name)
        images = weighed(found, kind, session)
        sentences = open_questions(images) + doubts(found[0], kind)
        said += [f"{name}: {sentence}" for sentence in sentences]
    return said


def warn(console: Console, said: Mapping[str, Sequence[str]]) -> None:
    """Print each sentence once, with the patients that it concerns."""
    about: dict[str, list[str]] = defaultdict(list)
    for patient, sentences in said.items():
        for sentence in sentences:
            about[sentence].append(patient)
    for sentence, patients in sorted(about.items()):
        named = ", ".join(patients[:MOST_NAMED]) + (" ..." if len(patients) > MOST_NAMED else "")
        counted = f"{len(patients)} patients ({named})" if len(patients) > 1 else named
        console.print(escape(f"{counted}: {sentence}"), soft_wrap=True)


def tell_remarks(console: Console, remarks: Sequence[Remark], show_names: bool) -> None:
    """Print what was left out or kept apart: counts, or with ``show_names`` the places."""
    named = [f"{one.where}: {one.what}" if one.where else one.what for one in remarks]
    for line in named if show_names else counted(remarks):
        console.print(escape(line), soft_wrap=True)
