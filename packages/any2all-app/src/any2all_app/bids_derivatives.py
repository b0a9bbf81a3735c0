"""``any2all sample --bids``: write a patient's new images as a BIDS derivative.

    derivatives/any2all/
      dataset_description.json, README, .bidsignore
      sub-01[/ses-a]/anat/sub-01[_ses-a]_desc-synthetic_T1w.nii.gz, .json

Images that were given are unchanged and are not written again. Source: BIDS 1.10,
"Derivatives dataset and pipeline description" and "Preprocessed or cleaned data".
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from any2all_operators import UserError

from any2all_app.folders import write_text
from any2all_app.results import Completion
from any2all_app.scales import FULL_SCALE

DATASET = Path("derivatives/any2all")
BIDS_VERSION = "1.10.0"
FILES = {
    "T1": ("anat", "", "T1w"),
    "T1Gd": ("anat", "ce-gadolinium_", "T1w"),
    "T2": ("anat", "", "T2w"),
    "T2star": ("anat", "", "T2starw"),
    "FLAIR": ("anat", "", "FLAIR"),
    "PD": ("anat", "", "PDw"),
    "PET": ("pet", "", "pet"),
    "CT": ("ct", "", "ct"),
}
"""{modality: folder, entity, suffix}. ct is a proposed extension, not yet in the standard."""
IGNORED = "**/ct/\n"
README = (
    "Images that Any2all has drawn (desc-synthetic) or reconstructed (desc-reconstructed) from "
    "what each patient has. Synthetic images show what a model considers likely, not what was "
    "measured. Not for clinical use.\n"
)
RECORDED = ("prior", "sampler", "seed", "draws", "versions")
"""The entries of a report that a sidecar repeats, because they say how an image was made."""


@dataclass(frozen=True)
class Subject:
    """The BIDS subject of a file: ``sub``, and ``ses`` if there are sessions."""

    sub: str
    ses: str = ""

    @classmethod
    def of(cls, path: str) -> Subject:
        """Take the subject from a patient's path: sub-LABEL and ses-LABEL, or else its last part.

        Raises UserError if the path has no letter or digit for a label.
        """
        parts = [part for part in path.split("/") if part]
        found = {}
        for key in ("sub", "ses"):
            labels = [m[1] for p in parts if (m := re.fullmatch(rf"{key}-([A-Za-z0-9]+)", p))]
            found[key] = labels[-1] if labels else ""
        label = found["sub"] or re.sub(r"[^A-Za-z0-9]", "", parts[-1] if parts else "")
        if not label:
            raise UserError(f"--bids: {path!r} has no letter or digit for a label; rename it")
        return cls(label, found["ses"])

    @property
    def name(self) -> str:
        """Return the beginning of the subject's file names."""
        return f"sub-{self.sub}" + (f"_ses-{self.ses}" if self.ses else "")

    @property
    def folder(self) -> Path:
        """Return the folder of the subject's files in a data set."""
        return Path(f"sub-{self.sub}") / (f"ses-{self.ses}" if self.ses else "")


def check_names(modalities: Sequence[str]) -> None:
    """Raise UserError for modalities without a BIDS name."""
    if unknown := [name for name in modalities if name not in FILES]:
        raise UserError(
            f"--bids: BIDS has no name for {', '.join(unknown)}, only for {', '.join(FILES)}; "
            "leave --bids out"
        )


def write_bids(dataset: Path, results: Path, completion: Completion, subject: Subject) -> None:
    """Add a patient to the data set ``dataset``, which is created if needed.

    results: the folder of <modality>.nii.gz that :meth:`Completion.save` has written.
    """
    dataset.mkdir(parents=True, exist_ok=True)
    description = {
        "Name": "Any2all: synthetic and reconstructed images",
        "BIDSVersion": BIDS_VERSION,
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": "any2all", "Version": version("any2all-app")}],
    }
    write_text(dataset / "dataset_description.json", json.dumps(description, indent=2) + "\n")
    write_text(dataset / "README", README)
    write_text(dataset / ".bidsignore", IGNORED)
    for modality in completion.modalities:
        if completion.measurement.as_given(modality):
            continue
        missing = completion.measurement.source[modality] == "missing"
        kind, entity, suffix = FILES[modality]
        description_ = "synthetic" if missing else "reconstructed"
        folder = dataset / subject.folder / kind
        folder.mkdir(parents=True, exist_ok=True)
        stem = f"{subject.name}_{entity}desc-{description_}_{suffix}"
        shutil.copyfile(results / f"{modality}.nii.gz", folder / f"{stem}.nii.gz")
        said = json.dumps(_sidecar(modality, completion, missing), indent=2, default=str)
        write_text(folder / f"{stem}.json", said + "\n")


def _sidecar(modality: str, completion: Completion, missing: bool) -> dict[str, Any]:
    report = completion.report
    how = "drawn by a diffusion model from" if missing else "reconstructed from its scan and"
    others = [m for m in completion.modalities if completion.measurement.source[m] != "missing"]
    unit = completion.measurement.units[modality]
    return {
        "Description": f"{modality}, {how} {', '.join(others)}",
        "SkullStripped": False,
        "SpatialReference": "orig",
        "Units": "arbitrary" if unit == FULL_SCALE else unit,
        "Synthetic": missing,
        "Any2all": {name: value for name, value in report.items() if name in RECORDED},
    }
