"""docs/training.md: how uncertain the brightness of a missing image is with each scaling.

    python bench/scalings.py --data DATA

DATA holds <patient>/<modality>.nii.gz, MR alone. A scaling divides the true image by a value
computed from it, which is unknown if the image is missing. It can only be as constant as patients
are alike. For images a and b of a patient, both scaled, s = <a, b>/<a, a> is the factor by which a
comes nearest to b. The standard deviation of log s over patients is the part of b's brightness that
a does not determine. It costs 20 log10 of about as much in PSNR.

The last rows are not factors. A curve through landmarks makes images more alike, but the k-space of
an image is then no longer A x of the drawn x, and data consistency is lost.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
from any2all_data.folder_slices import find_modalities
from any2all_data.patient import read_patient
from any2all_data.patients import Patients
from any2all_eval.documents import markdown_table
from any2all_mri.intensity import FOREGROUND, mr_scale

Array = npt.NDArray[np.float64]
CORE = 0.6
"""The share of the foreground's box, along each axis, of the ellipsoid that is called its core."""
LANDMARKS: dict[str, tuple[float, ...]] = {
    "the median": (50,),
    "quartiles": (25, 50, 75),
    "deciles": tuple(range(10, 91, 10)),
}


def foreground(volume: Array) -> Array:
    """Its voxels above a tenth of its 99th percentile, as in :func:`mr_scale`."""
    found: Array = volume[volume > FOREGROUND * np.percentile(volume, 99)]
    return found


def core(volume: Array) -> Array:
    """The foreground within an ellipsoid in the middle of it: brain, and no scalp."""
    inside = volume > FOREGROUND * np.percentile(volume, 99)
    places = np.argwhere(inside)
    low, high = np.percentile(places, 2, axis=0), np.percentile(places, 98, axis=0)
    axes = np.ogrid[tuple(slice(0, n) for n in volume.shape)]
    middle, radius = (low + high) / 2, np.maximum(CORE * (high - low) / 2, 1)
    distance = sum(((x - m) / r) ** 2 for x, m, r in zip(axes, middle, radius, strict=True))
    found: Array = volume[inside & (distance < 1)]
    return found


def mode(values: Array) -> float:
    """The fullest of 64 bins up to the 99.5th percentile, after a moving mean over five bins."""
    counts, edges = np.histogram(values, bins=64, range=(0, float(np.percentile(values, 99.5))))
    fullest = int(np.convolve(counts, np.ones(5) / 5, "same")[3:].argmax()) + 3
    return float(edges[fullest : fullest + 2].mean())


SCALINGS: dict[str, Callable[[Array], float]] = {
    "99.5th percentile of the foreground (in use)": lambda v: mr_scale(v.astype(np.float32)),
    "95th percentile of the foreground": lambda v: float(np.percentile(foreground(v), 95)),
    "median of the foreground": lambda v: float(np.median(foreground(v))),
    "root mean square of the foreground": lambda v: float(np.sqrt((foreground(v) ** 2).mean())),
    "mode of the foreground": lambda v: mode(foreground(v)),
    "95th percentile of the core": lambda v: float(np.percentile(core(v), 95)),
    "median of the core": lambda v: float(np.median(core(v))),
    "mode of the core": lambda v: mode(core(v)),
}


def along_landmarks(volumes: list[Array], percentiles: tuple[float, ...]) -> list[Array]:
    """Volumes of one modality, each bent so that its landmarks are the mean ones (Nyul 2000)."""
    marks = [np.percentile(foreground(v), (*percentiles, 99.5)) for v in volumes]
    standard = np.mean([m / m[-1] for m in marks], axis=0)
    bent = []
    for volume, own in zip(volumes, marks, strict=True):
        bent.append(np.interp(volume, [0, *own, 2 * own[-1]], [0, *standard, 2 * standard[-1]]))
    return bent


def open_brightness(a: list[Array], b: list[Array]) -> float:
    """The standard deviation of log <a, b>/<a, a> over patients."""
    factors = [float((x * y).sum() / (x * x).sum()) for x, y in zip(a, b, strict=True)]
    return float(np.log(factors).std(ddof=1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    asked = parser.parse_args()
    patients = [Path(path) for path in Patients.at(asked.data).everybody.values()]
    names = find_modalities(patients)
    volumes: dict[str, list[Array]] = {name: [] for name in names}
    for patient in patients:
        for name, volume in read_patient(patient, names).items():
            volumes[name].append(volume.slices.astype(np.float64))
    pairs = list(itertools.permutations(names, 2))
    rows = []
    scaled: dict[str, dict[str, list[Array]]] = {
        label: {name: [v / scale(v) for v in volumes[name]] for name in names}
        for label, scale in SCALINGS.items()
    }
    scaled |= {
        f"curve through {label}": {n: along_landmarks(volumes[n], marks) for n in names}
        for label, marks in LANDMARKS.items()
    }
    for label, images in scaled.items():
        found = [open_brightness(images[a], images[b]) for a, b in pairs]
        rows.append([label, *(f"{x:.3f}" for x in found), f"{np.mean(found):.3f}"])
    heads = ["scaling", *(f"{b} from {a}" for a, b in pairs), "mean"]
    print(f"{len(patients)} patients; standard deviation of the log of the best factor\n")
    print("\n".join(markdown_table(heads, rows)))


if __name__ == "__main__":
    main()
