"""Who lies at a path: a cohort, folders of patients, or one patient.

Every command asks here. Only names are looked at: images and DICOM headers are read when a patient
is opened (:func:`any2all_data.patient_volumes.open_patient`).
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
    """Who lies at a path.

    Parameters
    ----------
    path
        A path, or the URL of a cohort or of one of its patients.
    place
        What lies there: a cohort of ``any2all prepare``; a patient of one, as COHORT/PATIENT;
        folders train, val or test with patients' folders of NIfTI; patients' folders of NIfTI; or
        the folder of one patient, of NIfTI, raw k-space or DICOM.
    cohort
        That lies there, or that the patient is of.
    """

    path: str
    place: Place
    cohort: CohortStore | None = None

    @classmethod
    def at(cls, path: str | Path) -> Patients:
        """Look what lies at a path. Raises UserError where there is nothing."""
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
                f"{text}: no such folder; expected a cohort, COHORT/PATIENT, a folder of "
                "<patient>/<modality>.nii.gz, or one patient's folder of NIfTI, k-space or DICOM"
            )
        if any(_is_image(entry) for entry in folder.iterdir()):
            return cls(text, "patient")
        if any(_patients_in(folder / split) for split in SPLITS):
            return cls(text, "folders by split")
        return cls(text, "folders" if _patients_in(folder) else "patient")

    @property
    def is_one(self) -> bool:
        """Whether it is one patient."""
        return self.place in ("patient", "patient of a cohort")

    @property
    def name(self) -> str:
        """The last part of the path: of one patient, what it is called."""
        return self.path.rstrip("/").rpartition("/")[2]

    @property
    def virtual(self) -> bool:
        """Whether they are simulated, so that no such people exist."""
        return self.cohort is not None and self.cohort.virtual

    @cached_property
    def groups(self) -> Mapping[str, dict[str, str]]:
        """{split: {name: path}}; empty where nothing says who is in which."""
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
        """{name: path} of all of them, sorted by name."""
        if self.is_one:
            return {self.name: self.path}
        if self.place == "folders":
            return _patients_in(Path(self.path))
        grouped = [one for group in self.groups.values() for one in group.items()]
        return dict(sorted(grouped))

    def of(self, split: str | None) -> dict[str, str]:
        """{name: path} of a split's patients, of everybody for None.

        Raises UserError where nothing says who is in it, or nobody is.
        """
        if split is None:
            found = self.everybody
        elif split not in SPLITS:
            raise UserError(f"--split {split}: expected {', '.join(SPLITS)}")
        elif self.place not in ("cohort", "folders by split"):
            raise UserError(
                f"--split {split}: {self.path} is no cohort, which would say who is {split}"
            )
        else:
            found = self.groups.get(split, {})
        if not found:
            raise UserError(f"{self.path}: no {split or ''} patient in it")
        return found

    def _below(self, name: str) -> str:
        return f"{self.path.rstrip('/')}/{name}"


def _is_image(path: Path) -> bool:
    """Whether a file may be one of a patient's, and does not only tell of images."""
    said = path.name.startswith(".") or path.name.lower().endswith(SIDECARS)
    return path.is_file() and not said


def _patients_in(folder: Path) -> dict[str, str]:
    """{name: path} of the folders that hold a patient's NIfTI, sorted.

    Directly, or in BIDS' folders of sessions and datatypes, which are no patients themselves.
    """
    if not folder.is_dir():
        return {}
    return {
        patient.name: str(patient)
        for patient in sorted(folder.iterdir())
        if patient.is_dir() and not is_bids_folder(patient.name) and nifti_of(patient)
    }
