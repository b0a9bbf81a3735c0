"""Make the package's weights and example: draw a cohort of ellipses, train, keep what is needed.

    python make.py COHORT RUN

COHORT gets <patient>/A.nii.gz and B.nii.gz of random ellipses, RUN is the training's folder.
"""

import shutil
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np

PACKAGE = Path(__file__).parent / "src/any2all_phantoms"
SIZE, SLICES, PATIENTS = 32, 24, 20
RECIPE = {"channels": "16+32", "norm_groups": 4, "blocks": 1, "steps": 1500, "batch_size": 16}


def ellipses(seed: int) -> dict[str, np.ndarray]:
    """Two contrasts (x, y, z) of one scene: what is bright in A is dark in B."""
    rng = np.random.default_rng(seed)
    x, y = np.mgrid[-1 : 1 : SIZE * 1j, -1 : 1 : SIZE * 1j]
    volumes = {name: np.zeros((SIZE, SIZE, SLICES), np.float32) for name in "AB"}
    for z in range(SLICES):
        for k in range(4):
            centre = rng.uniform(-0.35, 0.35, 2) * (k > 0)
            axes = rng.uniform(0.7, 0.9, 2) if k == 0 else rng.uniform(0.12, 0.4, 2)
            angle = rng.uniform(0, np.pi)
            u = (x - centre[0]) * np.cos(angle) + (y - centre[1]) * np.sin(angle)
            v = (y - centre[1]) * np.cos(angle) - (x - centre[0]) * np.sin(angle)
            inside = (u / axes[0]) ** 2 + (v / axes[1]) ** 2 < 1
            level = 0.5 if k == 0 else rng.uniform(0.15, 0.95)
            volumes["A"][inside, z], volumes["B"][inside, z] = 200 * level, 200 * (1.1 - level)
    return volumes


def main(cohort: Path, run: Path) -> None:
    for patient in range(PATIENTS):
        folder = cohort / f"ellipses_{patient:02d}"
        folder.mkdir(parents=True)
        for name, volume in ellipses(patient).items():
            image = nib.Nifti1Image(volume, np.diag([-1.0, -1.0, 1.0, 1.0]))
            nib.save(image, folder / f"{name}.nii.gz")
    options = [word for k, v in RECIPE.items() for word in ("--set", f"{k}={v}")]
    command = ["any2all", "train", "--data", str(cohort), "--output", str(run), *options]
    subprocess.run(command, check=True)
    for name in ("weights", "example"):
        shutil.rmtree(PACKAGE / name, ignore_errors=True)
    keep = shutil.ignore_patterns("checkpoint.pt", "log.jsonl")
    shutil.copytree(run, PACKAGE / "weights", ignore=keep)
    (PACKAGE / "example").mkdir()
    for name, volume in ellipses(PATIENTS).items():
        image = nib.Nifti1Image(volume[:, :, :2], np.diag([-1.0, -1.0, 1.0, 1.0]))
        nib.save(image, PACKAGE / "example" / f"{name}.nii.gz")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
