"""A virtual person: five simulated images of somebody who does not exist."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
from any2all_operators import UserError

from any2all_virtual import signals
from any2all_virtual.anatomy import Anatomy, draw_anatomy
from any2all_virtual.space import HEAD, Array, Grid, smooth_field
from any2all_virtual.tissues import (
    PERSON_SPREAD,
    TISSUE_SPREAD,
    TISSUES,
    Flair,
    GradientEcho,
    Mprage,
    Tissue,
)

CENTRE = (0.0, -8.0, 16.0)
"""Middle of the field of view, MNI mm."""


@dataclass(frozen=True)
class Person:
    """``images``: T1, FLAIR, T2star (arbitrary units), CT (HU), PET (SUV, g/ml), float32 on one RAS
    grid; ``lesions``: uint8, see ``LESIONS``; ``facts``: what was drawn for this person."""

    images: dict[str, nib.Nifti1Image]
    lesions: nib.Nifti1Image
    facts: dict[str, Any]


def virtual_person(
    seed: int,
    spacing: tuple[float, float, float] = (1.875, 1.875, 3.0),
    shape: tuple[int, int, int] = (128, 128, 56),
) -> Person:
    """Simulate a virtual person.

    The same arguments give the same bytes. Another grid shows the same person with other noise.

    Parameters
    ----------
    seed
        Number of the person.
    spacing
        Voxel size (x, y, z) in mm, above 0.
    shape
        Number of voxels (X, Y, Z), at least 8 each.

    Returns
    -------
    Person
        Images on one RAS grid, the label map of lesions, and the facts that were drawn.

    Raises
    ------
    UserError
        If ``spacing`` or ``shape`` is too small.
    """
    if min(spacing) <= 0 or min(shape) < 8:
        raise UserError(
            f"spacing {spacing}, shape {shape}: expected more than 0 mm and at least 8 voxels"
        )
    body, scanner, noise = np.random.default_rng(seed).spawn(3)
    grid = Grid.around(CENTRE, shape, spacing)
    anatomy = draw_anatomy(body, grid)
    mr, mr_facts = _mr(scanner, noise, grid, anatomy)
    others, other_facts = _ct_and_pet(scanner, noise, grid, anatomy)
    return Person(
        {name: _nifti(image, grid) for name, image in {**mr, **others}.items()},
        _nifti(anatomy.lesions, grid),
        {"virtual": True, "seed": seed, **anatomy.facts, **mr_facts, **other_facts},
    )


def _mr(
    rng: np.random.Generator, noise: np.random.Generator, grid: Grid, anatomy: Anatomy
) -> tuple[dict[str, Array], dict[str, Any]]:
    """Simulate T1, FLAIR and T2star (X, Y, Z), white matter at about 1000; also their facts."""
    common = PERSON_SPREAD * rng.standard_normal(4)
    person = {name: _varied(tissue, common, rng) for name, tissue in TISSUES.items()}
    t1 = {name: abs(signals.mprage(tissue, Mprage())) for name, tissue in person.items()}
    t2_star = {name: signals.gradient_echo(t, GradientEcho()) for name, t in person.items()}
    flair = {name: abs(signals.flair(tissue, Flair())) for name, tissue in person.items()}
    fat_saturation = float(rng.choice([0.0, 0.9]))
    for name in ("fat", "marrow"):
        fat = replace(person[name], t2=Flair().fat_t2_gain * person[name].t2)
        flair[name] = (1 - fat_saturation) * abs(signals.flair(fat, Flair()))
    left = signals.dephasing(anatomy.fractions, grid.spacing, GradientEcho())
    images, facts = dict[str, Array](), dict[str, Any](FLAIR_fat_saturation=fat_saturation)
    for name, values in {"T1": t1, "FLAIR": flair, "T2star": t2_star}.items():
        signal = signals.mixture(anatomy.fractions, values) / values["white"]
        if name == "T2star":
            signal = signal * left
        depth, snr = float(rng.uniform(0.06, 0.16)), float(rng.uniform(30, 70))
        bias = np.exp(depth * HEAD.spread(smooth_field(rng, 50)[0], grid))
        images[name] = 1000 * signals.rician(bias * signal, 1 / snr, noise)
        facts |= {f"{name}_snr": round(snr, 1), f"{name}_bias": round(depth, 3)}
    return images, facts


def _ct_and_pet(
    rng: np.random.Generator, noise: np.random.Generator, grid: Grid, anatomy: Anatomy
) -> tuple[dict[str, Array], dict[str, Any]]:
    """Simulate CT (HU) and PET (SUV), both (X, Y, Z), and return their facts."""
    facts = {
        "CT_fwhm_mm": round(float(rng.uniform(1.0, 1.8)), 2),
        "CT_noise_hu": round(float(rng.uniform(2.5, 4.5)), 2),
        "PET_fwhm_mm": round(float(rng.uniform(5.0, 7.5)), 2),
        "PET_noise": round(float(rng.uniform(0.04, 0.09)), 3),
        "PET_uptake": round(float(rng.lognormal(0, 0.12)), 3),
    }
    hu = signals.mixture(anatomy.fractions, {name: t.hu for name, t in TISSUES.items()})
    suv = signals.mixture(anatomy.fractions, {name: t.suv for name, t in TISSUES.items()})
    suv = facts["PET_uptake"] * (suv + anatomy.extra_suv)
    return {
        "CT": signals.ct(
            hu, grid.spacing, noise, fwhm=facts["CT_fwhm_mm"], noise_std=facts["CT_noise_hu"]
        ),
        "PET": signals.pet(
            suv, grid.spacing, noise, fwhm=facts["PET_fwhm_mm"], noise=facts["PET_noise"]
        ),
    }, facts


def _varied(tissue: Tissue, common: npt.NDArray[np.float64], rng: np.random.Generator) -> Tissue:
    """Return the tissue with this person's T1, T2, T2* and PD; common: log factors (4,)."""
    t1, t2, t2_star, pd = np.exp(common + TISSUE_SPREAD * rng.standard_normal(4))
    return replace(
        tissue,
        t1=tissue.t1 * t1,
        t2=tissue.t2 * t2,
        t2_star=tissue.t2_star * t2_star,
        pd=tissue.pd * pd,
    )


def _nifti(array: Any, grid: Grid) -> nib.Nifti1Image:
    kind = np.uint8 if array.dtype == np.uint8 else np.float32
    image = nib.Nifti1Image(array.astype(kind), grid.affine)
    image.header.set_xyzt_units("mm")
    return image
