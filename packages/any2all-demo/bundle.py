"""Fill this package from a prior's training runs: half-precision weights and a synthetic patient.

    python packages/any2all-demo/bundle.py runs/lgg runs/lgg-2

The weights are those of the last run, each of which started from the one before; the logs of all
are kept.

The patient's slices are some of those that any2all sample --sampler ddpm --draws 16 draws from
nothing, kept as 12-bit integers. They are not neighbours in one head: no such person exists.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import torch
from any2all_core import DiffusionPrior, reconstruct
from any2all_core.prior import WEIGHTS
from any2all_data.patient import write_slices
from any2all_operators import BlockDiagonal
from safetensors.torch import load_file, save_file

PACKAGE = Path(__file__).parent / "src" / "any2all_demo"
DRAWS = 16
SHOWN = (3, 11, 10, 7, 9, 1)
"""Which draws, from low to high in the head, picked by eye."""
LEVELS = 4095


def main(*runs: Path) -> None:
    run = runs[-1]
    weights = {name: w.half() for name, w in load_file(run / WEIGHTS).items()}
    target = PACKAGE / "lgg"
    target.mkdir(exist_ok=True)
    for name in ("config.json", "prior.json"):
        shutil.copy(run / name, target / name)
    (target / "log.jsonl").write_text("".join((r / "log.jsonl").read_text() for r in runs))
    save_file(weights, target / WEIGHTS, metadata={"format": "pt"})
    prior = DiffusionPrior.load(target)
    shape = (1, *prior.settings.image_size)
    draws = reconstruct(
        prior, BlockDiagonal({}), {}, "ddpm", shape=shape, draws=DRAWS, batch_size=DRAWS
    )
    stack = draws[list(SHOWN), 0]
    patient = PACKAGE / "synthetic_patient"
    patient.mkdir(exist_ok=True)
    affine = np.diag([-1.875, -1.875, 5.0, 1.0])
    for m, name in enumerate(prior.modalities):
        values = (stack[:, m] * LEVELS).round().to(torch.int16).numpy()
        write_slices(patient / f"{name}.nii.gz", values, affine)
    note = {"synthetic": True, "note": "drawn from the prior; no such person exists"}
    (patient / "README.json").write_text(json.dumps(note) + "\n")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
