"""Find the patients at a path: a cohort, folders of patients, or one patient.

Every command finds its patients here. Only file names are read. Images and DICOM headers are read
when a patient is opened (:func:`any2all_data.patient_volumes.open_patient`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from any2all_operators import UserError

from any2all_data.cohort_entry import SPLITS
from any2all_data.patient_folder import is_bids_folder, nifti_of
from any2all_data.source_tree import SIDECARS
from any2all_data.store import CohortStore, is_cohort

Place = Literal["cohort", "patient of a cohort", "folders by split", "folders", "patient"]


@dataclass(frozen=True)
class Patients:
    """The patients at a path.

    Parameters
    ----------
    path
        A path, or the URL of a cohort or of one of its patients.
    place
        What the path is: a cohort made by ``any2all prepare``; one of its patients
        (COHORT/PATIENT); folders train, val or test of patients' NIfTI folders; a folder of
        patients' NIfTI folders; or the folder of one patient with NIfTI, raw k-space or DICOM.
    cohort
        The cohort at the path, or the cohort of the patient.
    """

    path: str
    place: Place
    cohort: CohortStore | None = None

    @classmethod
    def at(cls, path: str | Path) -> Patients:
        """Find the patients at a path. Raises UserError if there is nothing."""
        text = str(path)
        if store := CohortStore.find(text):
            return cls(text, "cohort", store)
        url = text.rstrip("/").rpartition("/")[0]
        if url and (store := CohortStore.find(url)):
            return cls(text, "patient of a cohort", store)
        if "://" in text:
            CohortStore.open(url if is_cohort(url) else text)  # says what is wrong
        folder = Path(text)
        if not folder.is_dir():
            raise UserError(
                f"{text}: {'is a file' if folder.is_file() else 'no such folder'}; expected a "
                "cohort, COHORT/PATIENT, a folder of "
                "<patient>/<modality>.nii.gz, or one patient's folder of NIfTI, k-space or DICOM"
            )
        if any(_is_image(entry) for entry in folder.iterdir()):
            return cls(text, "patient")
        if any(_patients_in(folder / split) for split in SPLITS):
            return cls(text, "folders by split")
        return cls(text, "folders" if _patients_in(folder) else "patient")

    @property
    def is_one(self) -> bool:
        """Whether the path is one patient."""
        return self.place in ("patient", "patient of a cohort")

    @property
    def name(self) -> str:
        """The last part of the path, which is the name of a single patient."""
        return self.path.rstrip("/").rpartition("/")[2]

    @property
    def virtual(self) -> bool:
        """Whether the people are simulated, so that none of them exists."""
        return self.cohort is not None and self.cohort.virtual

    @cached_property
    def groups(self) -> Mapping[str, dict[str, str]]:
        """{split: {name: path}}; empty if the patients are not divided into splits."""
        if self.place == "cohort" and self.cohort is not None:
            entries = self.cohort.patients()
            return {
                split: {p: self._below(p) for p, e in entries.items() if e.split == split}
                for split in SPLITS
            }
        if self.place == "folders by split":
            found = {split: _patients_in(Path(self.path) / split) for split in SPLITS}
            return {split: patients for split, patients in found.items() if patients}
        return {}

    @cached_property
    def everybody(self) -> dict[str, str]:
        """{name: path} of all patients, sorted by name."""
        if self.is_one:
            return {self.name: self.path}
        if self.place == "folders":
            return _patients_in(Path(self.path))
        grouped = [one for group in self.groups.values() for one in group.items()]
        return dict(sorted(grouped))

    def of(self, split: str | None) -> dict[str, str]:
        """Return {name: path} of a split's patients. None returns all patients.

        Raises UserError if the patients are not divided into splits, or the split is empty.
        """
        if split is None:
            found = self.everybody
        elif split not in SPLITS:
            raise UserError(f"--split {split}: expected {', '.join(SPLITS)}")
        elif self.place not in ("cohort", "folders by split"):
            raise UserError(
                f"--split {split}: {self.path} is no cohort, and only a cohort has splits"
            )
        else:
            found = self.groups.get(split, {})
        if not found:
            raise UserError(f"{self.path}: no {split or ''} patient in it")
        return found

    def _below(self, name: str) -> str:
        return f"{self.path.rstrip('/')}/{name}"


def _is_image(path: Path) -> bool:
    """Whether a file may be an image or k-space, not a description beside an image."""
    described = path.name.startswith(".") or path.name.lower().endswith(SIDECARS)
    return path.is_file() and not described


def _patients_in(folder: Path) -> dict[str, str]:
    """Return {name: path} of the folders with a patient's NIfTI files, sorted.

    The files lie directly in the folder, or in BIDS folders of sessions and datatypes below it.
    """
    if not folder.is_dir():
        return {}
    return {
        patient.name: str(patient)
        for patient in sorted(folder.iterdir())
        if patient.is_dir() and not is_bids_folder(patient.name) and nifti_of(patient)
    }
