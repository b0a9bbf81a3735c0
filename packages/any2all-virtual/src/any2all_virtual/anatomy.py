"""The anatomy of one person: the places of tissues and lesions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from any2all_virtual.atlas import Atlas, icbm152
from any2all_virtual.head import Thickness, Tissues, Voxels, paint_head
from any2all_virtual.pathology import Pathology
from any2all_virtual.shapes import ellipsoid
from any2all_virtual.space import HEAD, Array, Grid, integrate, mean_over, smooth_field

PIVOT = np.array([0.0, -20.0, 0.0])
"""Point about which the head is rotated, MNI mm."""
FINEST = 3.0
"""Voxels longer than this, in mm, are averaged from shorter ones."""
SHARPNESS = 1.8
"""Exponent of the tissue odds, which turns the mean of 152 people into one person."""


@dataclass(frozen=True)
class Anatomy:
    """``fractions``: of each tissue in a voxel, (X, Y, Z), summing to 1; ``extra_suv``: amyloid and
    regional uptake beyond the tissues' own, g/ml; ``lesions``: uint8 label map; ``facts``."""

    fractions: dict[str, Array]
    extra_suv: Array
    lesions: npt.NDArray[np.uint8]
    facts: dict[str, Any]


def draw_anatomy(rng: np.random.Generator, grid: Grid) -> Anatomy:
    """Draw a person of 40 to 88 years. Atrophy, lesions and amyloid increase with age."""
    atlas = icbm152()
    age = float(rng.uniform(40, 88))
    atrophy = float(np.clip((age - 40) / 48 * 0.65 + rng.normal(0, 0.15), 0, 1))
    positive = bool(rng.random() < 0.15 + 0.45 * atrophy)
    load = float(np.clip(rng.beta(1.3, 2.3) * (0.4 + atrophy), 0, 1))

    factor = [max(1, int(np.ceil(s / FINEST - 1e-6))) for s in grid.spacing]
    fine = grid.finer(factor)
    voxel = float(np.mean(fine.spacing))
    x = fine.points()

    def field(sigma: float) -> Array:
        return HEAD.spread(smooth_field(rng, sigma)[0], fine)

    scale = rng.normal(0.93, 0.025, 3) * rng.normal(1, 0.02)
    at = template_points(rng, atlas, x, scale, atrophy=atrophy)
    cranium = atlas.coarse.sample(atlas.cranium, at)
    voxels = Voxels(at, cranium, atlas.coarse.sample(atlas.vault, at), voxel)
    layers = Thickness(
        liquid=np.float32(0.8 + 1.5 * atrophy) + 0.35 * field(20),
        skull=_thickness(rng.normal(6.2, 0.8), 1.1 * field(22), 3.5),
        table=float(rng.uniform(1.6, 2.2)),
        scalp=_thickness(rng.normal(6.5, 1.0), 0.7 * field(25), 3.5),
        fat=_thickness(rng.normal(5.2, 1.0), 0.6 * field(25), 2.5),
    )
    coarse, rough = field(5), field(2.2)
    tissues = Tissues(fine.shape)
    cavity = paint_head(tissues, voxels, layers, coarse=coarse, rough=rough)
    sulci = (0.3 + 1.1 * atrophy + 0.5 * field(7)) * (0.3 + 0.7 * _cerebrum(at))
    cortex = Cortex(sulci, clefts(at, coarse), 0.5 + 0.35 * field(6))
    paint_brain(tissues, atlas, voxels, cavity, cortex=cortex)

    pathology = Pathology(atlas, tissues, at, voxel)
    pathology.white_matter(rng, atlas.coarse.sample(atlas.ventricles, at), field(4.5), load)
    pathology.infarcts(rng, coarse, int(rng.poisson(0.25 + 0.5 * load)))
    bleeding = rng.random() < 0.15 + 0.3 * positive
    pathology.microbleeds(rng, 1 + int(rng.poisson(3.0)) if bleeding else 0)
    pathology.calcifications(rng, rough, age)

    burden = float(rng.uniform(0.45, 1.1) if positive else rng.uniform(0.0, 0.1))
    patchiness, variation = 1 + 0.15 * field(15), 0.08 * field(12)
    extra_suv = amyloid_uptake(tissues, at, burden, patchiness=patchiness, variation=variation)
    shares = [mean_over(share, factor) for share in pathology.share.values()]
    lesions = np.argmax([np.full_like(shares[0], 0.25), *shares], 0).astype(np.uint8)
    facts = {
        "age": round(age, 1),
        "atrophy": round(atrophy, 3),
        "brain_scale": [round(float(s), 3) for s in scale],
        "amyloid_positive": positive,
        "amyloid_suv": round(burden, 3),
        "white_matter_lesion_load": round(load, 3),
        **pathology.counts,
    }
    fractions = {name: mean_over(fraction, factor) for name, fraction in tissues.items()}
    return Anatomy(fractions, mean_over(extra_suv, factor), lesions, facts)


def template_points(
    rng: np.random.Generator,
    atlas: Atlas,
    x: Array,
    scale: npt.NDArray[np.float64],
    *,
    atrophy: float,
) -> Array:
    """Map the person's points x (3, X, Y, Z) to the template, mm: φ(R S⁻¹ (x − c) + p).

    R is the pose and S the size. φ is the flow of a smooth random velocity, which is smaller near
    the skull than in the brain, plus a velocity that widens the ventricles with atrophy.
    """
    turn = _rotation(np.radians(rng.normal(0, [4, 2.5, 3]))) / scale
    moved = x - (PIVOT + rng.normal(0, 3, 3)).astype(np.float32)[:, None, None, None]
    at = np.einsum("ij,j...->i...", turn.astype(np.float32), moved)
    at += PIVOT.astype(np.float32)[:, None, None, None]
    points = HEAD.points()
    folds = 1.6 * smooth_field(rng, 14, 3) + 0.9 * smooth_field(rng, 7, 3)
    folds *= np.clip(-atlas.coarse.sample(atlas.cranium, points) / 12, 0.2, 1)
    distance = atlas.coarse.sample(atlas.ventricles, points)
    inwards = -np.stack(np.gradient(distance, *HEAD.spacing))
    inwards *= np.exp(-np.square(np.maximum(distance, 0) / 14))  # what is seen there lies inside
    wider = 0.8 + 5.0 * atrophy * rng.uniform(0.6, 1.4)
    u = integrate((folds + 3.0 * smooth_field(rng, 40, 3) + wider * inwards).astype(np.float32))
    return at + np.stack([HEAD.sample(component, at) for component in u])


@dataclass(frozen=True)
class Cortex:
    """Maps (X, Y, Z) of one person's cortex.

    ``sulci`` and ``white_gain`` are the log gains b of CSF and of white matter. ``carved`` is the
    fraction of the grey matter that is CSF before these gains, see ``clefts``.
    """

    sulci: Array
    carved: Array
    white_gain: Array


def paint_brain(
    tissues: Tissues, atlas: Atlas, voxels: Voxels, cavity: Array, *, cortex: Cortex
) -> None:
    """Paint CSF, falx and sagittal sinus, cord, grey and white matter, and iron-rich nuclei.

    The odds of tissue k are (p_k e^(b_k))^SHARPNESS, with p from the atlas and b from the cortex.
    """
    at, cranium = voxels.at, voxels.cranium
    tissues.paint(csf=cavity)
    brain = atlas.fine.sample(atlas.brain, at)
    outside = cavity * (1 - brain)
    above = at[2] > -5
    falx = 0.6 * np.exp(-np.square(at[0])) * above
    sinus = np.exp(-np.square(at[0] / 3.5) - np.square((cranium - 1) / 3)) * above * (at[1] < 60)
    tissues.paint(dura=falx * outside)
    tissues.paint(blood=sinus * outside)
    cord = ellipsoid(at, (0, -47, -85), (6.5, 5, 30))
    tissues.paint(white=np.clip(0.5 - cord / voxels.size, 0, 1) * cavity)

    grey, white = atlas.fine.sample(atlas.grey, at), atlas.fine.sample(atlas.white, at)
    liquid = np.clip(brain - grey - white, 0, 1) + cortex.carved * grey
    grey = grey * (1 - cortex.carved)
    gained = [grey, white * np.exp(cortex.white_gain), liquid * np.exp(cortex.sulci)]
    odds = np.stack(gained) ** SHARPNESS
    grey, white, liquid = cavity * brain * odds / np.maximum(odds.sum(0), 1e-6)
    tissues.paint(grey=grey, white=white, csf=liquid * (1 - falx), dura=liquid * falx)
    tissues.paint(iron=0.75 * _nuclei(at) * (tissues["grey"] + tissues["white"]))


def clefts(at: Array, texture: Array) -> Array:
    """Return the fraction (X, Y, Z) of grey matter that is CSF, which a mean of 152 brains loses.

    It has the interhemispheric fissure, creases of the cortex along the zeros of ``texture``, and
    the cerebellar fissures, a fan about an axis through the roof of the fourth ventricle.
    """
    x, y, z = at
    cerebrum = _cerebrum(at)
    deep = np.clip(ellipsoid(at, (0, -8, 4), (40, 34, 24)) / 6, 0, 1)  # 0 in the grey nuclei
    crease = 0.4 * np.clip(1 - abs(texture) / 0.3, 0, 1) * deep
    fissure = 0.55 * np.exp(-np.square(x / 1.2))
    angle = np.arctan2(z + 33, np.hypot(0.7 * x, y + 40)) + 0.04 * texture
    leaves = 0.3 * np.clip(0.5 + np.cos(45 * angle), 0, 1) * (y < -45)
    return cerebrum * np.maximum(crease, fissure) + (1 - cerebrum) * leaves


def amyloid_uptake(
    tissues: Tissues, at: Array, burden: float, *, patchiness: Array, variation: Array
) -> Array:
    """Return the 18F-florbetapir uptake above the tissues' normal uptake, SUV (X, Y, Z).

    Grey matter above the tentorium takes up ``burden`` × ``patchiness`` more, and half of that
    around the central sulcus and in the occipital pole. The white matter beneath it takes up
    0.4 × ``burden`` more. ``variation`` is the normal variation of grey matter.
    """
    spared = np.exp(-np.square((at[1] + 25) / 18)) * (at[2] > 40) + (at[1] < -85)
    cortex = burden * patchiness * (1 - 0.5 * np.minimum(spared, 1)) + variation
    return _cerebrum(at) * (cortex * tissues["grey"] + 0.4 * burden * tissues["white"])


def _cerebrum(at: Array) -> Array:
    """Return 1 above the tentorium and 0 below it."""
    tentorium = -6 - 0.45 * abs(at[0]) - 0.3 * np.maximum(-60 - at[1], 0)
    beneath: Array = np.clip((tentorium - at[2]) / 4, 0, 1) * (at[1] < -28)
    return 1 - beneath


def _thickness(mean: float, variation: Array, least: float) -> Array:
    return np.maximum(np.float32(mean) + variation, np.float32(least))


def _nuclei(at: Array) -> Array:
    """Return the occupancy of the iron-rich pallidum, red nucleus, substantia nigra and dentate."""
    mirrored = np.stack([abs(at[0]), at[1], at[2]])
    shapes = (
        ((19.0, -4.0, -1.0), (4.0, 9.0, 5.0), 25.0),
        ((5.0, -20.0, -9.0), (3.0, 3.0, 3.5), 0.0),
        ((10.0, -17.0, -12.0), (5.0, 3.0, 3.5), -40.0),
        ((15.0, -57.0, -34.0), (5.0, 7.0, 4.0), 20.0),
    )
    distances = [ellipsoid(mirrored, *shape) for shape in shapes]
    return np.clip(0.5 - np.minimum.reduce(distances) / 3, 0, 1)


def _rotation(angles: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the rotation matrix (3, 3) for angles about x, y and z, in radians."""
    (cx, cy, cz), (sx, sy, sz) = np.cos(angles), np.sin(angles)
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    rotation: npt.NDArray[np.float64] = about_z @ about_y @ about_x
    return rotation
