"""Find the images in a folder tree that mixes DICOM, BIDS and other NIfTI.

:mod:`any2all_data.people` finds the patient of each image. Files that can't be read or are left out
get a remark.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from any2all_operators import UserError

from any2all_data.dicom import Series, find_series
from any2all_data.dicom_headers import is_dicom, named_like_dicom, quiet
from any2all_data.files import absent, is_nifti, leads_out, tree, unread, walk
from any2all_data.mask_names import mask_of
from any2all_data.people import ASIDE, SUBJECT, Owner, Remark, owners_of_files, owners_of_series

SIDECARS = (".json", ".tsv", ".txt", ".md", ".bval", ".bvec", ".csv", ".html", ".xml", ".py")
"""Suffixes of files beside images that are skipped without a remark."""


@dataclass(frozen=True)
class Found:
    """The images of a tree with their patients, sorted by path, and remarks."""

    series: list[tuple[Series, Owner]] = field(default_factory=list)
    nifti: list[tuple[Path, Owner]] = field(default_factory=list)
    remarks: list[Remark] = field(default_factory=list)


def scan(folder: Path, advance: Callable[[], None] = lambda: None) -> Found:
    """Find all DICOM and NIfTI images under a folder.

    In a BIDS data set, derivatives are left out except for masks, and so is sourcedata, which has
    the originals of the same images. Raises UserError if there is no folder or no image in it.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; expected DICOM, BIDS or <patient>/*.nii.gz")
    paths = list(walk(folder))
    remarks = _remarks(paths, folder)
    nifti = [path for path in paths if is_nifti(path)]
    bids = [path for path in nifti if _aside(path, folder) is None and _is_bids(path, folder)]
    series: list[Series] = []
    if any(map(_may_be_dicom, tree(folder))):
        series, damaged = find_series(folder, advance)
        remarks += [Remark(str(path), reason) for path, reason in damaged]
    if bids:
        kept = [one for one in series if _aside(one.files[0], folder) is None]
        if left := len(series) - len(kept):
            remarks.append(Remark("", f"{left} DICOM series in {'/'.join(ASIDE)} are left out"))
        series = kept
    aside = [path for path in nifti if _aside(path, folder) is not None] if bids else []
    owners, more = owners_of_series(series)
    patients = {
        path: owner.patient for one, owner in zip(series, owners, strict=True) for path in one.files
    }
    found, unclear = owners_of_files([p for p in nifti if p not in set(aside)], folder, patients)
    remarks += more + unclear
    found |= _masks_of_derivatives(aside, found)
    if left := len([path for path in aside if path not in found]):
        remarks.append(Remark("", f"{left} NIfTI files in {'/'.join(ASIDE)} are left out"))
    if not series and not found:
        raise UserError(
            f"{folder}: neither DICOM, nor BIDS (sub-*/), nor <patient>/*.nii.gz in it"
            + "".join(f"; {line}" for line in counted(remarks))
        )
    return Found(list(zip(series, owners, strict=True)), sorted(found.items()), remarks)


def counted(remarks: Sequence[Remark]) -> list[str]:
    """Return each remark once, without names, with its count, the most frequent first."""
    counts = Counter(remark.what for remark in remarks)
    return [f"{what} ({n} times)" if n > 1 else what for what, n in counts.most_common()]


def _remarks(paths: Sequence[Path], folder: Path) -> list[Remark]:
    """Return remarks on files that are not read, and on a DICOMDIR with missing files."""
    root = folder.resolve()
    remarks = []
    for path in paths:
        if is_nifti(path) or path.name.lower().endswith(SIDECARS):
            continue
        reason = unread(path)
        if path.is_symlink():
            if not path.exists():
                reason = absent(path)
            elif leads_out(path, root):
                reason = "links out of the folder are not followed; copy the file"
        elif path.name.upper() == "DICOMDIR" and (lost := _missing_files(path)):
            reason = f"DICOMDIR names {lost} files that are not there; copy the whole medium"
        elif not named_like_dicom(path) and path.stat().st_size:  # find_series remarks on DICOM
            reason = reason or absent(path)
        if reason:
            remarks.append(Remark(str(path), reason))
    return remarks


def _missing_files(dicomdir: Path) -> int:
    """Count the missing files that a DICOMDIR refers to, ignoring the case of their names."""
    from pydicom import dcmread

    there = {
        os.path.relpath(path, dicomdir.parent).lower().split(".")[0]
        for path in walk(dicomdir.parent)
    }
    try:
        with quiet():
            records: list[Any] = list(dcmread(dicomdir, force=True).DirectoryRecordSequence)
            names = [r.ReferencedFileID for r in records if r.get("ReferencedFileID")]
    except Exception:  # a damaged DICOMDIR does not matter: the files themselves are read
        return 0
    wanted = ["/".join([n] if isinstance(n, str) else n).lower().split(".")[0] for n in names]
    return len([name for name in wanted if name not in there])


def _may_be_dicom(path: Path) -> bool:
    try:
        return not is_nifti(path) and not unread(path) and is_dicom(path)
    except UserError:  # it is named like DICOM
        return True


def _aside(path: Path, folder: Path) -> str | None:
    """Return the folder of ASIDE in which a path lies, if any."""
    return next((part for part in path.relative_to(folder).parts[:-1] if part in ASIDE), None)


def _is_bids(path: Path, folder: Path) -> bool:
    return any(SUBJECT.fullmatch(part) for part in path.relative_to(folder).parts[:-1])


def _masks_of_derivatives(paths: Sequence[Path], found: dict[Path, Owner]) -> dict[Path, Owner]:
    """Find the patients of masks in derivatives: the only patient with the same sub-*."""
    patients: dict[str, set[str]] = {}
    for path, owner in found.items():
        for part in path.parts:
            if SUBJECT.fullmatch(part):
                patients.setdefault(part, set()).add(owner.patient)
    masks = {}
    for path in paths:
        label = next((part for part in reversed(path.parts) if SUBJECT.fullmatch(part)), "")
        session = next((part for part in path.parts if part.startswith("ses-")), "")
        if mask_of(path.name) and len(patients.get(label, ())) == 1:
            masks[path] = Owner(min(patients[label]), session)
    return masks
