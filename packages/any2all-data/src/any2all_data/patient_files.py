"""Assign the files of a patient's folder to modalities, whatever the files are called."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from any2all_core.modality_kind import ModalityKind
from any2all_operators import UserError

from any2all_data.bids import stem_of
from any2all_data.files import NIFTI
from any2all_data.kinds import NO_KINDS, Kinds, kind_of
from any2all_data.mask_names import mask_of
from any2all_data.modality_names import kind_of_name
from any2all_data.patient import modality_path
from any2all_data.patient_folder import nifti_of
from any2all_data.ranking import (
    UNDECIDED,
    choose,
    doubts,
    preferred_session,
    weighed,
)
from any2all_data.rules import Rule, modality_of, read_rules
from any2all_data.sources import Source, file_source


@dataclass(frozen=True)
class ImageFile:
    """A modality's file, and notes on why it was chosen."""

    path: Path
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class PatientFiles:
    """The NIfTI files of one patient.

    - ``images``: {modality: its file}.
    - ``unused``: the other files, without masks.
    """

    images: dict[str, ImageFile] = field(default_factory=dict)
    unused: tuple[Path, ...] = ()


def find_images(folder: Path, modalities: Sequence[str], own: Kinds = NO_KINDS) -> PatientFiles:
    """Assign the NIfTI files of one patient to modalities.

    ``<modality>.nii.gz`` comes first, then the same name in another case. Then the rules of
    ``prepare`` read the BIDS suffix or the words of the name (``sub-01_T1w``, ``BraTS_001_t1``).
    If several files fit, the criteria of ``prepare`` choose one, and a note says so. ``own`` are
    a user's kinds with their rules.

    Raises UserError if nothing tells which of several files to use.
    """
    files = nifti_of(folder)
    named = {m: path for m in modalities if (path := _named(folder, files, m)) is not None}
    found = {m: ImageFile(path) for m, path in named.items()}
    rest = [path for path in files if path not in named.values() and not mask_of(path.name)]
    found |= _by_rules(folder, rest, [m for m in modalities if m not in found], own)
    taken = {one.path for one in found.values()}
    unused = tuple(path for path in rest if path not in taken)
    return PatientFiles({m: found[m] for m in modalities if m in found}, unused)


def find_file(folder: Path, modality: str, suffixes: Sequence[str]) -> Path | None:
    """Find the file of a modality with one of these suffixes, for example raw k-space.

    ``<modality><suffix>`` comes first, in the order of the suffixes. Then any usual name of the
    modality counts, in any case (``flair.npy``, ``t1ce.h5``). Raises UserError if several fit.
    """
    exact = (folder / f"{modality}{suffix}" for suffix in suffixes)
    if path := next((path for path in exact if path.exists()), None):
        return path
    kind, found = kind_of_name(modality), list[Path]()
    for path in sorted(folder.iterdir()):
        suffix = next((s for s in suffixes if path.name.lower().endswith(s)), None)
        if suffix is None or not path.is_file():
            continue
        stem = path.name[: -len(suffix)]
        if stem.lower() == modality.lower() or (kind and kind_of_name(stem) == kind):
            found.append(path)
    if len(found) > 1:
        raise _tie(folder, modality, found)
    return found[0] if found else None


def _named(folder: Path, files: Sequence[Path], modality: str) -> Path | None:
    """Return the file named after a modality, in any case."""
    if path := modality_path(folder, modality):
        return path
    same = [p for p in files if p.parent == folder and stem_of(p).lower() == modality.lower()]
    if len(same) > 1:
        raise _tie(folder, modality, same)
    return same[0] if same else None


def _by_rules(
    folder: Path, files: Sequence[Path], wanted: Sequence[str], own: Kinds
) -> dict[str, ImageFile]:
    rules = read_rules(own=own.values())
    sources = [file_source(path, folder.name, _session(path)) for path in files]
    names = {m: m if m in own else kind_of_name(m) for m in wanted}
    ranked = choose(sources, rules, [name for name in names.values() if name], "T1", own=own)
    found = {}
    for modality, name in names.items():
        if name and list(names.values()).count(name) == 1 and name in ranked:
            session = preferred_session(ranked, "T1", name)
            kind = kind_of(name, own)
            images = weighed(ranked[name], kind, session)
            found[modality] = _chosen(folder, modality, images, kind)
        elif not name:  # no rule knows this modality: search for its name
            ends = rf"(?i)(^|[\W_]){re.escape(modality)}$"
            called = [s for s in sources if re.search(ends, stem_of(s.files[0]))]
            paths = [s.files[0] for s in called if not _known(s, rules)]
            if len(paths) > 1:
                raise _tie(folder, modality, paths)
            if paths:
                found[modality] = ImageFile(paths[0], (_read_from(folder, paths[0]),))
    return found


def _known(source: Source, rules: Sequence[Rule]) -> bool:
    """Whether the rules recognise a file as a modality."""
    return bool(modality_of(source.tags, rules))


def _chosen(
    folder: Path,
    modality: str,
    images: Sequence[tuple[Source, str]],
    kind: ModalityKind,
) -> ImageFile:
    """Return the first of the ranked images with notes on the choice."""
    first, _ = images[0]
    path = first.files[0]
    if tied := [source.files[0] for source, why in images[1:] if why == UNDECIDED]:
        raise _tie(folder, modality, [path, *tied])
    notes = [_read_from(folder, path)]
    notes += [f"{_relative(folder, s.files[0])} is not used: {why}" for s, why in images[1:]]
    return ImageFile(path, (*notes, *doubts(first, kind)))


def _tie(folder: Path, modality: str, paths: Sequence[Path]) -> UserError:
    names = " or ".join(_relative(folder, path) for path in paths)
    sessions = sorted({_session(path.relative_to(folder)) for path in paths} - {""})
    ends = next((end for end in NIFTI[::-1] if paths[0].name.endswith(end)), paths[0].suffix)
    way = f"rename one of them to {modality}{ends} in the folder itself"
    if len(sessions) > 1:
        way = f"give the folder of one session, for example {folder / sessions[0]}"
    return UserError(f"{folder}: {modality} may be {names}, and nothing tells which; {way}")


def _read_from(folder: Path, path: Path) -> str:
    return f"read from {_relative(folder, path)}"


def _relative(folder: Path, path: Path) -> str:
    return path.relative_to(folder).as_posix()


def _session(path: Path) -> str:
    return next((part for part in path.parts if part.startswith("ses-")), "")
