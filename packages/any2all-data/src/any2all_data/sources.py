"""What a folder of scans holds, and which modality each is: DICOM trees, BIDS, folders of NIfTI."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.resources import files
from pathlib import Path

from any2all_operators import UserError

from any2all_data.dicom import Series, read_series
from any2all_data.files import absent
from any2all_data.mask_names import mask_of
from any2all_data.nifti import load_nifti
from any2all_data.people import Remark
from any2all_data.pet_sidecar import pet_files
from any2all_data.scan import Scan, checked
from any2all_data.source_tree import scan

KEY_DIGITS, SESSION_DIGITS = 12, 4
LEAST_SALT = 16  # bytes
BLOCK = 2**20


@dataclass(frozen=True)
class Source:
    """One image of a patient, found but not read.

    ``patient``, ``session`` (of BIDS, or the DICOM study): as the source names them, identifying;
    ``tags``: what rules look at; ``files``: one NIfTI file, or those of ``series``.
    """

    patient: str
    session: str
    tags: Mapping[str, str]
    files: tuple[Path, ...]
    series: Series | None = None

    @property
    def mask(self) -> str:
        """What kind of mask it is, by its file's name; "" for an image."""
        return "" if self.series else mask_of(self.files[0].name)

    @property
    def lost(self) -> str:
        """Why one of the files has no content, and what to do; "" where all have some."""
        try:
            return next(filter(None, map(absent, self.files)), "")
        except OSError as error:
            return f"its file can't be opened ({error.strerror})"

    @property
    def warnings(self) -> tuple[str, ...]:
        """What was done to get a volume of its files, without names."""
        return self.series.warnings if self.series else ()

    @property
    def frames(self) -> int:
        return self.series.frames if self.series else 1

    def read(self, modality: str, trust_axes: bool = False) -> Scan:
        """float32 in the physical units of a modality, affine in mm (RAS).

        trust_axes: see :func:`load_nifti`.

        Raises UserError, without folder and file in it: they may bear the patient's name.
        """
        if reason := self.lost:
            raise UserError(reason)
        if self.series is None:
            return load_nifti(self.files[0], "its file", modality, trust_axes)
        try:
            return checked(Scan(read_series(self.series)), modality)
        except UserError as error:
            folder = os.path.commonpath([path.parent for path in self.files])
            raise UserError(str(error).replace(f"{folder}: ", "")) from None

    def fingerprint(self) -> str:
        """SHA-256 over the contents of the files, in their order; of PET, with its sidecar.

        Nothing where a file can't be opened.
        """
        digest = hashlib.sha256()
        for path in self.files:
            with contextlib.suppress(OSError), path.open("rb") as file:
                while block := file.read(BLOCK):
                    digest.update(block)
        if self.series is None and self.tags.get("Modality") == "PT":
            digest.update(pet_files(self.files[0]))
        return digest.hexdigest()


@dataclass(frozen=True)
class Rule:
    """A line of ``modalities.toml``; modality "" leaves a series out."""

    modality: str
    lines: Mapping[str, str] = field(default_factory=dict)

    def matches(self, tags: Mapping[str, str]) -> bool:
        for name, wanted in self.lines.items():
            negative = name.startswith("not_")
            value = tags.get(name.removeprefix("not_"), "")
            if _matches(wanted, value) == negative:
                return False
        return True


def read_rules(path: Path | None = None) -> list[Rule]:
    """The rules of a TOML file, or those that come with this package.

    Raises UserError when the file is no TOML, a rule has no modality, or a value can't be used.
    """
    shipped = files("any2all_data") / "modalities.toml"
    try:
        text = path.read_text() if path else shipped.read_text()
        tables = tomllib.loads(text)["rule"]
    except (OSError, tomllib.TOMLDecodeError, KeyError, UnicodeDecodeError) as error:
        raise UserError(
            f"{path}: no rules can be read ({error}); expected [[rule]] tables"
        ) from None
    rules = []
    for table in tables if isinstance(tables, list) else [tables]:
        usable = isinstance(table, dict) and isinstance(table.get("modality"), str)
        if not usable or len(table) < 2:
            raise UserError(
                f'{path}: rule {table} needs modality = "NAME" and at least one line to match'
            )
        lines = {name: str(value) for name, value in table.items() if name != "modality"}
        for name, value in lines.items():
            try:
                _matches(value, "0")
            except (re.error, ValueError) as error:
                raise UserError(
                    f"{path}: {name} = {value!r} is no regular expression or comparison ({error})"
                ) from None
        rules.append(Rule(table["modality"], lines))
    return rules


def modality_of(tags: Mapping[str, str], rules: Sequence[Rule]) -> str:
    """The modality of the first rule that matches; "" for none."""
    return next((rule.modality for rule in rules if rule.matches(tags)), "")


def find_sources(
    folder: Path, advance: Callable[[], None] = lambda: None
) -> tuple[list[Source], list[Remark]]:
    """The images under a folder, and a remark on each file or patient that needs one.

    DICOM of any file names, BIDS (``sub-*/``) and other NIfTI (``<patient>/<name>.nii.gz``) may
    lie side by side: see :mod:`any2all_data.source_tree`.
    """
    found = scan(folder, advance)
    sources = [
        Source(owner.patient, owner.session, _described(one.tags), one.files, one)
        for one, owner in found.series
    ]
    for path, owner in found.nifti:
        bids = any(part.startswith("sub-") for part in path.relative_to(folder).parts[:-1])
        source = _bids(path, folder) if bids else _nifti(path)
        sources.append(replace(source, patient=owner.patient, session=owner.session))
    return sources, found.remarks


def choose(
    sources: Sequence[Source], rules: Sequence[Rule], only: Sequence[str], reference: str
) -> dict[str, tuple[Source, ...]]:
    """A patient's images of each modality in ``only``, the best first.

    Of the reference that with most frames; of the others likewise, but first those of the same
    session. What comes later is used where the first can't be read.
    """
    found: dict[str, list[Source]] = {}
    for source in sources:
        name = modality_of(source.tags, rules)
        if name in only:
            found.setdefault(name, []).append(source)
    first = max(found.get(reference, []), key=lambda source: source.frames, default=None)
    session = first.session if first else None
    return {
        name: tuple(sorted(owned, key=lambda s: (s.session != session, -s.frames)))
        for name, owned in found.items()
    }


def patient_key(patient: str, salt: bytes, session: str | None = None) -> str:
    """HMAC-SHA-256 of a patient's identifier: always the same, not to be undone without salt.

    session: of one session by itself, added as four digits more.
    """

    def digits(text: str, count: int) -> str:
        return hmac.new(salt, text.encode(), hashlib.sha256).hexdigest()[:count]

    key = f"p-{digits(patient, KEY_DIGITS)}"
    return key if session is None else f"{key}-{digits(f'{patient}/{session}', SESSION_DIGITS)}"


def _bids(path: Path, folder: Path) -> Source:
    entities = path.name.split(".nii")[0].split("_")
    text = "_".join(part for part in entities if not part.startswith(("sub-", "ses-")))
    subject, *inner = path.relative_to(folder).parts
    session = next((part for part in inner if part.startswith("ses-")), "")
    return Source(subject, session, _file_tags(text, path.parent.name), (path,))


def _nifti(path: Path) -> Source:
    return Source(path.parent.name, "", _file_tags(path.name.split(".nii")[0], ""), (path,))


def _file_tags(text: str, folder: str) -> dict[str, str]:
    kind = (text if folder in ("", "anat") else folder).lower()
    begins = {"pet": "PT", "ct": "CT"}
    found = (modality for begin, modality in begins.items() if kind.startswith(begin))
    return {"text": text, "Modality": next(found, "MR")}


def _described(tags: Mapping[str, str]) -> dict[str, str]:
    names = ("SeriesDescription", "ProtocolName", "SequenceName")
    return {**tags, "text": " ".join(tags[name] for name in names if tags.get(name))}


def _matches(wanted: str, value: str) -> bool:
    """A regular expression found in the value, or a comparison with its first number."""
    if not value:
        return False
    if wanted[:1] in "<>":
        limit = float(wanted[1:])
        try:
            number = float(value.split("\\")[0])
        except ValueError:
            return False
        return number < limit if wanted[0] == "<" else number > limit
    return re.search(wanted, value, re.IGNORECASE) is not None
