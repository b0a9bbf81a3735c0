"""CT and PET as NIfTI files: a ball in air, and a sidecar that says what was injected."""

from __future__ import annotations

import gzip
import json
import struct
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from any2all_core.testing import AFFINE, phantom

PLACE = np.array([[2.0, 0, 0, -31], [0, 2, 0, -35], [0, 0, 3, -20], [0, 0, 0, 1]])


SHAPE = (32, 36, 14)


load = nib.Nifti1Image.from_filename
"""As nib.load, of what is known to be NIfTI."""


def distance(shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    """From the centre of an ellipsoid, 1 on its surface."""
    axes = (np.linspace(-1.3, 1.3, n) for n in shape)
    return np.sqrt(sum(a**2 for a in np.meshgrid(*axes, indexing="ij")))


def ct(noise: float = 8.0) -> np.ndarray:
    """A head: air, skin, skull, brain and a sinus, with the noise of a scanner."""
    r = distance()
    skull = 300 + 18000 * np.abs(r - 0.88)
    hu = np.select([r > 1, r > 0.93, r > 0.85], [-1000, 50, skull], 35.0)
    hu[14:18, 30:33, 4:8] = -1000
    return (hu + noise * np.random.default_rng(0).standard_normal(SHAPE)).clip(-1024)


def uptake() -> np.ndarray:
    return np.where(distance() < 0.85, 6.0 + np.sin(9 * distance()), 0.2).astype(np.float32)


def write(path: Path, values: np.ndarray, affine: np.ndarray = PLACE, **sidecar: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = values.dtype if values.dtype.kind in "iu" else np.float32
    nib.save(nib.Nifti1Image(values.astype(kind), affine), path)
    if sidecar:
        Path(str(path).replace(".nii.gz", ".json")).write_text(json.dumps(sidecar))
    return path


OFFSETS = {"xyzt_units": (123, "<b"), "qform_code": (252, "<h"), "sform_code": (254, "<h")}


def header_of(path: Path, **fields: int) -> Path:
    """Change fields of a file's header, which nibabel would put right."""
    packed = path.name.endswith(".gz")
    file = bytearray(gzip.decompress(path.read_bytes()) if packed else path.read_bytes())
    for name, value in fields.items():
        offset, kind = OFFSETS[name]
        struct.pack_into(kind, file, offset, value)
    path.write_bytes(gzip.compress(bytes(file), 1) if packed else bytes(file))
    return path


INJECTED: dict[str, Any] = {
    "Units": "Bq/mL",
    "TracerRadionuclide": "F18",
    "InjectedRadioactivity": 200,
    "InjectedRadioactivityUnits": "MBq",
    "InjectionStart": -1800,
    "BodyWeight": 70,
    "ImageDecayCorrected": True,
    "ImageDecayCorrectionTime": 600,
}
"""Injected half an hour before TimeZero; corrected to ten minutes after it."""


LEFT = 200e6 * 0.5 ** (2400 / 6586.2)


BECQUEREL = LEFT / 70000
"""Bq/ml of SUV 1."""


def without(*names: str, **others: Any) -> dict[str, Any]:
    return {name: value for name, value in (INJECTED | others).items() if name not in names}


def write_head(path: Path, seed: int = 0, depth: int = 6, **sidecar: Any) -> Path:
    return write(path, phantom(depth=depth, seed=seed), AFFINE, **sidecar)
