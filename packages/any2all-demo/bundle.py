"""Fill this package from a prior's training runs: half-precision weights and an example patient.

    python packages/any2all-demo/bundle.py lgg runs/lgg runs/lgg-2
    python packages/any2all-demo/bundle.py virtual runs/virtual

Each run started from the one before. The weights are those of the last run, and the logs of all
runs are kept.

The patient of ``lgg`` consists of slices that any2all sample --prior lgg --sampler ddpm --draws 16
draws from nothing, stored as 12-bit integers. They are not neighbours in one head, and no such
person exists. The person of ``virtual`` is simulated, with a seed that the training cohort does not
have. Every fifth slice of the head is stored.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from any2all_core import DiffusionPrior, reconstruct
from any2all_core.prior import WEIGHTS
from any2all_data.patient import write_slices
from any2all_data.sidecar import write_suv_sidecar
from any2all_operators import BlockDiagonal
from safetensors.torch import load_file, save_file

PACKAGE = Path(__file__).parent / "src" / "any2all_demo"
DRAWS = 16
SHOWN = (3, 11, 10, 7, 9, 1)
"""Indices of the draws that were chosen by eye, from low to high in the head."""
LEVELS = 4095
PERSON = 1000
"""Seed of the virtual person. The seeds of the training cohort are 0 to 224."""
PERSON_SLICES = slice(6, 56, 5)
DEPTH = 60


def bundle(name: str, *runs: Path) -> None:
    run = runs[-1]
    weights = {name: w.half() for name, w in load_file(run / WEIGHTS).items()}
    target = PACKAGE / name
    target.mkdir(exist_ok=True)
    for file in ("config.json", "prior.json"):
        shutil.copy(run / file, target / file)
    (target / "log.jsonl").write_text("".join((r / "log.jsonl").read_text() for r in runs))
    save_file(weights, target / WEIGHTS, metadata={"format": "pt"})
    (target / WEIGHTS).chmod(0o644)


def synthetic_patient() -> None:
    """Write the patient of ``lgg``, drawn from the prior."""
    prior = DiffusionPrior.load(PACKAGE / "lgg")
    shape = (1, *prior.settings.image_size)
    draws = reconstruct(
        prior, BlockDiagonal({}), {}, "ddpm", shape=shape, draws=DRAWS, batch_size=DRAWS
    )
    stack = draws[list(SHOWN), 0]
    patient = fresh(PACKAGE / "synthetic_patient", "drawn from the prior; no such person exists")
    affine = np.diag([-1.875, -1.875, 5.0, 1.0])
    for m, name in enumerate(prior.modalities):
        values = (stack[:, m] * LEVELS).round().to(torch.int16).numpy()
        write_slices(patient / f"{name}.nii.gz", values, affine)


def virtual_person() -> None:
    """Write the person of ``virtual``: MR as 12-bit integers, CT in HU, PET in 0.01 SUV."""
    from any2all_virtual import virtual_person as draw

    prior = DiffusionPrior.load(PACKAGE / "virtual")
    height, width = prior.settings.image_size
    spacing = prior.format.known_grid.spacing
    person = draw(PERSON, spacing, (width, height, DEPTH))
    folder = fresh(PACKAGE / "virtual_person", "a virtual person, simulated; no such person exists")
    for name, image in person.images.items():
        values = image.get_fdata()
        unit = {"CT": 1.0, "PET": 0.01}.get(name, values.max() / LEVELS)
        whole = nib.Nifti1Image((values / unit).round().astype(np.int16), image.affine)
        few = whole.slicer[:, :, PERSON_SLICES]
        if name == "PET":
            few.header.set_slope_inter(unit, 0)
        nib.save(few, folder / f"{name}.nii.gz")
    write_suv_sidecar(folder / "PET.nii.gz")


def fresh(folder: Path, note: str) -> Path:
    folder.mkdir(exist_ok=True)
    text = json.dumps({"synthetic": True, "note": note})
    (folder / "README.json").write_text(text + "\n")
    return folder


if __name__ == "__main__":
    bundle(sys.argv[1], *map(Path, sys.argv[2:]))
    {"lgg": synthetic_patient, "virtual": virtual_person}[sys.argv[1]]()
