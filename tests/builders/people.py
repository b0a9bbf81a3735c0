"""Files of people: a scan under an ID, and pointers where images should be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from any2all_data.kinds import stack_format
from any2all_data.prepare import FoundPlan, prepare_patient
from any2all_data.ranking import choose
from any2all_data.rules import read_rules
from any2all_data.sources import find_sources
from any2all_data.stacking import Preparation
from any2all_data.store import CohortStore
from builders.dicom import stack
from pydicom import Dataset


def scan_of(patient: str, uid: str, **tags: Any) -> list[Dataset]:
    return stack(3, uid=uid, PatientID=patient, StudyInstanceUID=f"{uid}.9", **tags)


ANNEX = "../../.git/annex/objects/3f/x1/MD5E-s9--abc.nii.gz/MD5E-s9--abc.nii.gz"


LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"


def prepared_entry(source: Path, cohort: Path) -> Any:
    modalities = ("T1", "FLAIR")
    CohortStore.create(str(cohort), stack_format(modalities, (32, 32)))
    chosen = choose(find_sources(source)[0], read_rules(), modalities, "T1")
    outcome = prepare_patient(FoundPlan("p-1", "train", chosen), str(cohort), Preparation())
    assert outcome.status == "prepared", outcome.reason
    return outcome.entry
