"""Every number of tissues and scanners in a virtual person's images.

Sources, and which numbers are chosen to look right, are in ``docs/virtual-people.md``.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Tissue:
    """``pd``: proton density over water's; ``t1``, ``t2``, ``t2_star``: ms at 3 T; ``hu``: HU;
    ``suv``: 18F-florbetapir uptake, g/ml, 50 to 60 min after injection."""

    pd: float
    t1: float
    t2: float
    t2_star: float
    hu: float
    suv: float


TISSUES = {
    "air": Tissue(0.0, 1000, 100, 10, -1000, 0.0),
    "muscle": Tissue(1.0, 1412, 50, 30, 55, 0.6),
    "fat": Tissue(0.9, 382, 68, 40, -95, 0.25),
    "skin": Tissue(0.7, 1000, 40, 20, 40, 0.5),
    "mucosa": Tissue(0.85, 1700, 90, 30, 35, 0.9),
    "bone": Tissue(0.05, 500, 5, 1, 1250, 0.35),
    "marrow": Tissue(0.6, 450, 80, 12, 420, 0.7),
    "dura": Tissue(0.6, 900, 40, 20, 55, 0.8),
    "blood": Tissue(0.45, 1932, 60, 25, 58, 1.1),
    "eye": Tissue(1.0, 4300, 1000, 500, 8, 0.2),
    "csf": Tissue(1.0, 4300, 1800, 700, 7, 0.25),
    "grey": Tissue(0.86, 1500, 99, 46, 38, 1.0),
    "white": Tissue(0.77, 940, 72, 47, 29, 1.75),
    "iron": Tissue(0.82, 1150, 70, 20, 40, 1.3),
    "lesion": Tissue(0.92, 1500, 135, 65, 22, 1.2),
    "gliosis": Tissue(0.93, 1700, 150, 70, 22, 0.9),
    "cavity": Tissue(1.0, 3600, 900, 400, 10, 0.3),
    "bleed": Tissue(0.5, 1200, 45, 4, 55, 0.8),
    "calcium": Tissue(0.3, 1000, 40, 5, 450, 0.5),
}
"""Means over people. ``iron`` are iron-rich grey nuclei, ``cavity`` is that of an old infarct."""

PERSON_SPREAD, TISSUE_SPREAD = 0.03, 0.015
"""Std of log T1, T2, T2* and PD: common to a person's tissues, and independent per tissue."""

LESIONS = {"white-matter lesion": 1, "microbleed": 2, "calcification": 3, "infarct": 4}
"""Values of the label map."""


@dataclass(frozen=True)
class Mprage:
    """Inversion time to the centre of k-space, repetition of inversions and of echoes, ms."""

    inversion_time: float = 1000.0
    repetition_time: float = 2400.0
    echo_spacing: float = 7.6
    echoes: int = 176
    flip_angle: float = 8.0  # degrees
    echo_time: float = 2.1


@dataclass(frozen=True)
class Flair:
    """Inversion-recovery train of spin echoes; times in ms.

    ``fat_t2_gain``: fat's T2 in such a train over its T2 (Henkelman 1992).
    """

    inversion_time: float = 2500.0
    repetition_time: float = 9000.0
    echo_time: float = 110.0
    fat_t2_gain: float = 1.6


@dataclass(frozen=True)
class GradientEcho:
    """Spoiled gradient echo; times in ms."""

    repetition_time: float = 650.0
    echo_time: float = 20.0
    flip_angle: float = 20.0  # degrees


FIELD_STRENGTH = 3.0  # T
GYROMAGNETIC_RATIO = 42.577  # MHz/T
SUSCEPTIBILITY = {"air": 9.4, "bleed": 3.0, "calcium": -2.0}  # ppm, relative to water
