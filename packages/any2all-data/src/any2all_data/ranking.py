"""Choose which of a patient's images of one modality is used, and give the reason.

Two images are compared by CRITERIA in order. The first criterion in which they differ decides and
gives the reason. No criterion reads a voxel.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from any2all_core.modality_kind import ModalityKind

from any2all_data.criteria import CRITERIA, Candidate, implausible, shows_head
from any2all_data.kinds import NO_KINDS, Kinds, kind_of
from any2all_data.rules import Rule, modality_of, number
from any2all_data.sources import Source

USED = "used"
UNDECIDED = "nothing tells which to use"
OTHER_TRACER = "its tracer is another one"
"""The reasons UNDECIDED and OTHER_TRACER mean that another image could be used as well."""


def choose(
    sources: Sequence[Source],
    rules: Sequence[Rule],
    only: Sequence[str],
    reference: str,
    *,
    own: Kinds = NO_KINDS,
) -> dict[str, tuple[Source, ...]]:
    """Return a patient's images of each modality in ``only``, the best first by CRITERIA.

    The reference comes first, because its session is preferred for the other modalities. A later
    image is used if those before it can't be read or registered. ``own`` are a user's kinds.
    """
    found: dict[str, list[Source]] = {}
    for source in sources:
        name = modality_of(source.tags, rules)
        if name in only:
            found.setdefault(name, []).append(source)
    ranked: dict[str, tuple[Source, ...]] = {}
    for name in sorted(found, key=lambda name: name != reference):
        session = preferred_session(ranked, reference, name)
        kind = kind_of(name, own)
        places = {id(source): rank(source, kind, session) for source in found[name]}
        ranked[name] = tuple(sorted(found[name], key=lambda source: places[id(source)]))
    return ranked


def rank(source: Source, kind: ModalityKind, session: str | None) -> tuple[float, ...]:
    """Return the values of CRITERIA, by which images of a modality are sorted."""
    one = Candidate(source, kind, session)
    return tuple(criterion(one) for criterion, _ in CRITERIA)


def why_later(first: Source, other: Source, kind: ModalityKind, session: str | None) -> str:
    """Say why ``other`` comes after ``first``; UNDECIDED if no criterion differs."""
    if kind.dicom == "PT" and _tracer(first) != _tracer(other):
        return OTHER_TRACER
    places = zip(rank(first, kind, session), rank(other, kind, session), strict=True)
    for (_, words_), (one, two) in zip(CRITERIA, places, strict=True):
        if one != two:
            return words_
    return "it is a copy" if _copies(first, other) else UNDECIDED


def preferred_session(
    chosen: Mapping[str, Sequence[Source]], reference: str, modality: str
) -> str | None:
    """Return the reference's session, preferred for other modalities; None for the reference."""
    if modality == reference or not chosen.get(reference):
        return None
    return chosen[reference][0].session


def weighed(
    ranked: Sequence[Source],
    kind: ModalityKind,
    session: str | None,
    *,
    used: int = 0,
    failed: Mapping[int, str] | None = None,
) -> list[tuple[Source, str]]:
    """Return the used image, then the others, each with the reason why it is not used.

    ``used`` is the index of the used image in ``ranked``. ``failed`` is {index: reason} of images
    that could not be used.
    """
    failed = failed or {}
    rest = [k for k in range(len(ranked)) if k != used]
    reasons = [
        (ranked[k], failed.get(k) or why_later(ranked[used], ranked[k], kind, session))
        for k in rest
    ]
    return [(ranked[used], USED), *reasons]


def open_questions(images: Sequence[tuple[Source, str]]) -> list[str]:
    """Return a sentence if one of the other ``weighed`` images could be used as well."""
    reasons = [why for _, why in images if why in (UNDECIDED, OTHER_TRACER)]
    if not reasons:
        return []
    counted = "another image" if len(reasons) == 1 else f"{len(reasons)} other images"
    return [f"{counted} could also be used, and {reasons[0]}; the first one is used"]


def doubts(source: Source, kind: ModalityKind) -> list[str]:
    """Return what a user has to know about this image, in sentences without names."""
    unsaid = re.fullmatch(r"mri?", source.tags.get("name", ""), re.IGNORECASE)
    assumed = [f"its name gives no MR contrast; it is taken for a {kind.name}"] if unsaid else []
    derived = source.tags.get("derived")
    made = [f"it is derived ({derived}), because there is no other image"] if derived else []
    part = [] if shows_head(source) else ["its BodyPartExamined is not the head"]
    return [*source.warnings, *implausible(source, kind), *assumed, *made, *part]


def without_names(source: Source) -> str:
    """Describe an image without identifying anybody: number or hash, size and echo time."""
    if source.series is not None:
        described = f"series {source.tags.get('SeriesNumber') or 'without a number'}"
    else:
        described = f"file with SHA-256 {source.fingerprint()[:12]}"
    if source.grid:
        shape = " x ".join(str(n) for n in source.grid.shape)
        spacing = " x ".join(f"{step:.3g}" for step in source.grid.spacing)
        described += f", {shape} voxels of {spacing} mm"
    echo = number(source.tags, "EchoTime")
    return described + (f", TE {echo:g} ms" if echo else "")


def _tracer(source: Source) -> str:
    return (source.tags.get("trc") or source.tags.get("Radiopharmaceutical") or "").lower()


def _copies(one: Source, other: Source) -> bool:
    return one.fingerprint() == other.fingerprint() and _frames(one) == _frames(other)


def _frames(source: Source) -> tuple[tuple[int, int], ...]:
    return source.series.selected if source.series else ()
