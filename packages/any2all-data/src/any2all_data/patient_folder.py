"""List the NIfTI files of one patient by the names of the folders."""

from __future__ import annotations

from pathlib import Path

from any2all_data.bids import DATATYPES
from any2all_data.files import is_nifti, tree


def nifti_of(folder: Path) -> list[Path]:
    """List a patient's NIfTI files: in the folder, or in BIDS session and datatype folders below.

    Folders of other names are not searched.
    """
    here = [path for path in sorted(folder.iterdir()) if not path.name.startswith(".")]
    direct = [path for path in here if path.is_file() and is_nifti(path)]
    inside = [path for path in here if path.is_dir() and is_bids_folder(path.name)]
    return direct + [
        path
        for sub in inside
        for path in tree(sub)
        if is_nifti(path) and all(map(is_bids_folder, path.relative_to(folder).parts[:-1]))
    ]


def is_bids_folder(name: str) -> bool:
    """Whether a folder has the BIDS name of a session (``ses-1``) or a datatype (``anat``)."""
    return name.startswith("ses-") or name in DATATYPES
