"""Fill this package from a prior's training runs: half-precision weights and a patient to try.

    python packages/any2all-demo/bundle.py lgg runs/lgg runs/lgg-2
    python packages/any2all-demo/bundle.py virtual runs/virtual

The weights are those of the last run, each of which started from the one before; the logs of all
are kept.

The patient of ``lgg`` is some of the slices that any2all sample --prior lgg --sampler ddpm
--draws 16 draws from nothing, kept as 12-bit integers. They are not neighbours in one head: no such
person exists. The person of ``virtual`` is simulated with a seed of its own, every fifth slice of a
whole head: nobody of the cohort that the prior was trained on, and no such person exists.
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
"""Which draws, from low to high in the head, picked by eye."""
LEVELS = 4095
PERSON = 1000
"""Seed of the virtual person; those of the cohort are 0 to 224."""
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
    """Draws of ``lgg``."""
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
    """MR as 12-bit integers, CT in whole HU, PET in hundredths of SUV."""
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
