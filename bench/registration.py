"""Registration to T1 against the transforms that came with the scans, and the value of quality.

    python bench/registration.py RAW [--repeat 3]
    python bench/registration.py --virtual FOLDER [--people 3,5,8]

The second command uses virtual people: see registration_grid.py. RAW has a folder for each patient
with <study>_T1W, _T2W and _FLAIR.nii.gz and ITK text transforms
<study>_<modality>_intrastudy_to_FLAIR.txt (open_ms/raw). These transforms are affine and map a
point of FLAIR to the point of the modality, both LPS, as ITK resamples. A rigid pose cannot follow
their scaling and shear. "rigid part" is the rigid pose nearest to them over the head, and "floor"
is its distance from them. Displacements are mean/max over the head of T1, in mm.

The quality is then computed for the pose that was found, and for this pose moved by 4, 8, 15 mm and
rotated by 5, 10° (the best of two random directions). It is also computed for the other patient's
image registered to this T1. ``--repeat`` gives the mean displacement between seeds.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import registration_grid
from any2all_data.registration import (
    QUALITY_THRESHOLD,
    head_mask,
    reference_grid,
    register,
    registration_quality,
)
from nibabel.affines import apply_affine
from scipy.spatial.transform import Rotation

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
WRONG = ((4, 0), (8, 0), (15, 0), (0, 5), (0, 10), (4, 10))  # mm, degrees


def itk_affine(path: Path) -> np.ndarray:
    """(4, 4) in RAS, of x -> M (x - c) + c + t in LPS."""
    lines = [line.split(":") for line in path.read_text().splitlines() if "Parameters" in line]
    parameters, centre = (np.array(values.split(), float) for _, values in lines)
    matrix = np.eye(4)
    matrix[:3, :3] = parameters[:9].reshape(3, 3)
    matrix[:3, 3] = parameters[9:] + centre - matrix[:3, :3] @ centre
    return LPS @ matrix @ LPS


def rigid_part(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """The rigid pose nearest to an affine one over the points (Kabsch)."""
    there = apply_affine(matrix, points)
    turn, _ = Rotation.align_vectors(there - there.mean(0), points - points.mean(0))
    rigid = np.eye(4)
    rigid[:3, :3] = turn.as_matrix()
    rigid[:3, 3] = there.mean(0) - rigid[:3, :3] @ points.mean(0)
    return rigid


def apart(a: np.ndarray, b: np.ndarray, points: np.ndarray) -> str:
    distance = np.linalg.norm(apply_affine(a, points) - apply_affine(b, points), axis=1)
    return f"{distance.mean():.2f}/{distance.max():.2f}"


def moved(mm: float, degrees: float, centre: np.ndarray, seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    shift, axis = (v / np.linalg.norm(v) for v in random.normal(size=(2, 3)))
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_rotvec(degrees * axis, degrees=True).as_matrix()
    matrix[:3, 3] = centre - matrix[:3, :3] @ centre + mm * shift
    return matrix


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("raw", type=Path, nargs="?")
    arguments.add_argument("--virtual", type=Path, metavar="FOLDER", help="keeps what is done")
    arguments.add_argument("--people", default="3,5,8", help="seeds of virtual people")
    arguments.add_argument("--modalities", default="CT,PET")
    arguments.add_argument("--repeat", type=int, default=1)
    arguments.add_argument("--no-quality", action="store_true", help="only the displacements")
    options = arguments.parse_args()
    if options.virtual is not None:
        people = [int(seed) for seed in options.people.split(",")]
        wrong = not options.no_quality
        registration_grid.register_from_grid(
            options.virtual, people, options.modalities.split(","), wrong
        )
    if options.raw is not None:
        against_shipped(options)


def against_shipped(options: argparse.Namespace) -> None:
    patients = sorted(path for path in options.raw.iterdir() if path.is_dir())
    print("patient modality | shipped | rigid part | floor | quality | seconds | between seeds")
    for number, patient in enumerate(patients):
        t1_path = next(patient.glob("*_T1W.nii.gz"))
        study = t1_path.name.removesuffix("_T1W.nii.gz")
        t1 = nib.Nifti1Image.from_filename(t1_path)
        grid = reference_grid(t1, (2.0, 2.0, 3.0), (104, 120, 56))
        mask = head_mask(grid)
        points = apply_affine(mask.affine, np.argwhere(np.asarray(mask.dataobj))[::17])

        def shipped(modality: str, patient: Path = patient, study: str = study) -> np.ndarray:
            return itk_affine(patient / f"{study}_{modality}_intrastudy_to_FLAIR.txt")

        for modality in ("FLAIR", "T2W"):
            moving = nib.Nifti1Image.from_filename(patient / f"{study}_{modality}.nii.gz")
            truth = np.linalg.inv(shipped("T1W"))
            truth = truth if modality == "FLAIR" else shipped(modality) @ truth
            start = time.perf_counter()
            found = register(moving, t1, grid)
            seconds = time.perf_counter() - start
            others = [register(moving, t1, grid, seed).matrix for seed in range(1, options.repeat)]
            rigid = rigid_part(truth, points)
            spread = ", ".join(apart(m, found.matrix, points) for m in others) or "-"
            print(
                f"{patient.name} {modality} | {apart(found.matrix, truth, points)} | "
                f"{apart(found.matrix, rigid, points)} | {apart(rigid, truth, points)} | "
                f"{found.quality:.3f} | {seconds:.0f} | {spread}",
                flush=True,
            )
            if options.no_quality:
                continue
            for mm, degrees in WRONG:
                figures = [
                    registration_quality(
                        moving,
                        t1,
                        found.matrix @ moved(mm, degrees, points.mean(0), seed),
                    )
                    for seed in range(2)
                ]
                print(f"  off by {mm} mm, {degrees} degrees: {max(figures):.3f}", flush=True)
            other = patients[number - 1]
            foreign = nib.Nifti1Image.from_filename(next(other.glob(f"*_{modality}.nii.gz")))
            print(f"  of {other.name}: {register(foreign, t1, grid).quality:.3f}", flush=True)
    print(f"threshold {QUALITY_THRESHOLD}")


if __name__ == "__main__":
    main()
