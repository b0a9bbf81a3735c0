"""Find the patient of each image by DICOM headers, BIDS names, or file and folder names."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from any2all_data.dicom import Series
from any2all_data.dicom_frames import PatientIdentity

GENERIC = re.compile(
    r"|0+|x+|9+|1|12+3+4*5*6*7*8*9*0*|(dummy|test|no|default)?(patient|subject|person)?(id|name)?|"
    r"(patient)?(anonym(ous|i[sz]ed)?|anon|unknown|unnamed|none|null|nil|na|nn|noid|noname|"
    r"nobody|dei?dentified|removed|redacted|confidential|hidden|johndoe|janedoe)(patient|subject)?"
)
"""PatientIDs and names that identify nobody, without case and punctuation."""
SUBJECT = re.compile(r"sub-[A-Za-z0-9]+")
SESSION = re.compile(
    r"(?i)(ses|visit|v\d|tp|time|baseline|bl\b|follow|m\d|y\d|\d{4}-?\d{2}-?\d{2})"
)
NAMES = tuple(
    re.compile(pattern)
    for pattern in (
        r"^(?P<patient>sub-[A-Za-z0-9]+)(_(?P<session>ses-[A-Za-z0-9]+))?_",
        r"^(?P<patient>BraTS-[A-Z]+-\d{5})-(?P<session>\d{3})",
        r"^(?P<patient>BraTS\d+(_Training|_Validation)?_\d{3,5})_",
        r"^(?P<patient>IXI\d{3})-",
        r"^(?P<patient>OAS[12]_\d{4})_(?P<session>MR\d+)",
        r"^(sub-)?(?P<patient>OAS3\d{4})_(ses-|MR_|CT_|PET_)?(?P<session>d\d+)?",
        r"(^|_)(?P<patient>\d{3}_S_\d{4,5})(_|$)",
    )
)
"""Patient and session in the file and folder names of public data sets."""
SERIES_WORD = re.compile(r"(?i)^(t1|t2|pd|ct|mr|pt|pet|flair|swi|adc|dwi|fdg|seg|mask|lesion|run)")
ASIDE = ("derivatives", "sourcedata", "code", "stimuli")
"""Folders of a BIDS data set that do not hold its original images."""


@dataclass(frozen=True)
class Remark:
    """A remark ``what`` on the file or patient ``where``. Only ``where`` is identifying."""

    where: str = field(repr=False)
    what: str


@dataclass(frozen=True)
class Owner:
    """A patient and a session (a BIDS session or a DICOM study). Both are identifying."""

    patient: str = field(repr=False)
    session: str = field(default="", repr=False)


def owners_of_series(series: Sequence[Series]) -> tuple[list[Owner], list[Remark]]:
    """Find the patient of each series, and remarks on unclear ones.

    The patient is the PatientID. If it is generic, or if its series disagree on name, birth date
    or sex, each study becomes a patient of its own. A study whose series disagree is divided
    further.
    """
    same: dict[str, list[Series]] = defaultdict(list)
    for one in series:
        same[one.patient].append(one)
    remarks, apart = [], dict[str, bool]()
    for patient, owned in same.items():
        people = [one.person for one in owned]
        studies = len({one.study for one in owned})
        generic = all(_plain(person.id) == "" for person in people)
        apart[patient] = generic or contradictory(people)
        if contradictory(people):
            said = "one PatientID has different names, birth dates or sexes"
        else:
            said = "a PatientID is generic"
        if apart[patient] and (studies > 1 or contradictory(people)):
            remarks.append(
                Remark(
                    patient,
                    f"{said}; each of its {studies} studies becomes a patient of its own",
                )
            )
    mixed = {
        study
        for study in {one.study for one in series}
        if contradictory([one.person for one in series if one.study == study])
    }

    def owner(one: Series) -> Owner:
        if not apart[one.patient]:
            return Owner(one.patient, one.study)
        person = one.person if one.study in mixed else PatientIdentity()
        identity = (one.patient, one.study, person.name, person.birth_date, person.sex)
        return Owner("/".join(filter(None, identity)), one.study)

    return [owner(one) for one in series], remarks


def contradictory(people: Sequence[PatientIdentity]) -> bool:
    """Whether names, birth dates or sexes contradict each other. Missing ones never do."""
    names = [set(re.split(r"\W+", p.name.casefold())) - {""} for p in people if _plain(p.name)]
    if any(not (a <= b or b <= a) for a in names for b in names):
        return True
    known = [(p.birth_date, p.sex.upper()) for p in people]
    return any(len({value for value in values if value}) > 1 for values in zip(*known, strict=True))


def owners_of_files(
    paths: Sequence[Path], folder: Path, dicom: Mapping[Path, str]
) -> tuple[dict[Path, Owner], list[Remark]]:
    """Find the patient of each NIfTI file of a tree, and remarks on files without one.

    ``dicom`` is {DICOM file: its patient}. A file below a folder with DICOM of one patient belongs
    to that patient. Otherwise the patient's name comes from the folder ``sub-*``, from the file's
    name, or from the folder directly in ``folder``.
    """
    around = _patients_below(dicom, folder)
    owners: dict[Path, Owner] = {}
    remarks = []
    for path, owner, why in _by_folders(paths, folder):
        beside = _patients_beside(path, folder, around)
        if len(beside) > 1:
            remarks.append(
                Remark(
                    str(path),
                    f"a NIfTI file has no patient: it lies beside DICOM of {len(beside)} patients",
                )
            )
        elif beside:
            owners[path] = Owner(min(beside), owner.session if owner else "")
        elif owner:
            owners[path] = owner
        else:
            remarks.append(Remark(str(path), why))
    return owners, remarks


def _by_folders(paths: Sequence[Path], folder: Path) -> Iterator[tuple[Path, Owner | None, str]]:
    """Yield each file with its patient, or with the reason why the patient is unknown."""
    parts = {path: path.relative_to(folder).parts for path in paths}
    unclear = _unclear_folders(parts.values())
    flat = _flat_folders(paths)
    for path in paths:
        *above, name = parts[path]
        owner = _owner_in_bids(above) or _owner_in_names([name, *reversed(above)])
        why = ""
        if owner is None and not above:
            why = (
                "a NIfTI file has no patient's folder; expected <patient>/<name>.nii.gz (if SOURCE "
                "is one patient, give the folder around it)"
            )
        elif owner is None and path.parent in flat:
            why = "a folder has images of several people; give each a folder of their own"
        elif owner is None and above[0] in unclear:
            why = (
                "a folder has subfolders with the same file names, which may be patients or "
                "sessions; give that folder as SOURCE, or use BIDS names (sub-*/ses-*)"
            )
        elif owner is None:
            session = above[1] if len(above) > 1 and SESSION.match(above[1]) else ""
            owner = Owner(above[0], session)
        yield path, owner, why


def _owner_in_bids(above: Sequence[str]) -> Owner | None:
    """Return the path of the last folder sub-*, because two data sets may each have a sub-01."""
    places = [k for k, part in enumerate(above) if SUBJECT.fullmatch(part)]
    if not places:
        return None
    inner = above[places[-1] + 1 :]
    session = next((part for part in inner if part.startswith("ses-")), "")
    return Owner("/".join(above[: places[-1] + 1]), session)


def _owner_in_names(names: Sequence[str]) -> Owner | None:
    """Find the patient in a file's or folder's name, as public data sets write it."""
    for name in names:
        for pattern in NAMES:
            if match := pattern.search(name):
                found = match.groupdict()
                return Owner(found["patient"], found.get("session") or "")
    return None


def _unclear_folders(parts: Iterable[tuple[str, ...]]) -> set[str]:
    """Find folders with several subfolders, not sessions, whose files have the same names."""
    places: dict[tuple[str, str], set[str]] = defaultdict(set)
    for one in parts:
        if len(one) > 2 and not SESSION.match(one[1]):
            places[one[0], one[-1]].add(one[1])
    return {top for (top, _), inner in places.items() if len(inner) > 1}


def _flat_folders(paths: Sequence[Path]) -> set[Path]:
    """Find folders whose files are ``<id>_<what>`` with several ids for one ``<what>``."""
    ids: dict[tuple[Path, str], set[str]] = defaultdict(set)
    for path in paths:
        first, *others = re.split(r"[_-]", path.name.split(".nii")[0], maxsplit=1)
        if re.search(r"\d", first) and not SERIES_WORD.match(first):
            ids[path.parent, others[0] if others else ""].add(first)
    return {parent for (parent, _), found in ids.items() if len(found) > 1}


def _patients_below(dicom: Mapping[Path, str], folder: Path) -> dict[Path, set[str]]:
    below: dict[Path, set[str]] = defaultdict(set)
    for path, patient in dicom.items():
        for parent in path.parents:
            below[parent].add(patient)
            if parent == folder:
                break
    return below


def _patients_beside(path: Path, folder: Path, below: Mapping[Path, set[str]]) -> set[str]:
    """Return the patients of the DICOM files in the nearest folder above a file that has any.

    The root ``folder`` counts only for files directly in it.
    """
    for parent in path.parents:
        if parent == folder and path.parent != folder:
            return set()
        if below.get(parent):
            return below[parent]
        if parent == folder:
            return set()
    return set()


def _plain(name: str) -> str:
    """Return a name without case and punctuation; "" if it identifies nobody."""
    plain = re.sub(r"[\W_]+", "", name.casefold())
    return "" if GENERIC.fullmatch(plain) else plain
