"""What is measured beside what always is, and what could not be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from any2all_app.measurement import Trained
from any2all_data.mask_names import mask_of
from any2all_data.patient import Volume
from any2all_data.patient_folder import nifti_of
from any2all_data.patients import Patients
from any2all_operators import UserError
from torch import Tensor

from any2all_eval.challenges import CHALLENGES, Challenge, Mask
from any2all_eval.metrics import Perceptual, SetDistance, fid, lpips
from any2all_eval.patients import ALL, Patient, Slices, marked, units
from any2all_eval.perception import NETWORK, load_perception

WITHOUT_UNIT = "of [0, 1]"
"""What the unit of an image is called that has none."""


@dataclass(frozen=True)
class Measures:
    """pairs: of slices and their truth; sets: of draws from nothing; names: of the networks used.

    challenges: whose metrics of whole volumes are measured. left_out: why others are not measured
    and how to have them, a sentence each.
    """

    pairs: Sequence[Perceptual] = ()
    sets: Sequence[SetDistance] = ()
    names: Sequence[str] = ()
    challenges: Sequence[Challenge] = ()
    left_out: Sequence[str] = ()

    def with_masks(self, patient: Patient, path: str) -> Patient:
        """The patient with the masks that the challenges ask for, where it has them."""
        if not self.challenges or not patient.volumes:
            return patient
        volume = next(iter(patient.volumes.values()))
        found = {c.name: read_mask(path, c, volume) for c in self.challenges}
        return replace(patient, masks={name: m for name, m in found.items() if m is not None})

    def of_volume(
        self, patient: Patient, modality: str, image: Tensor, unit: str
    ) -> dict[str, float]:
        """{metric: value} of a modality's judged slices (B, H, W) in [0, 1], with their unit.

        A slice that shows no head is not judged: the truth stands in its place, and SynthRAD's
        mask ends there.
        """
        found: dict[str, float] = {}
        for challenge in self.challenges:
            mask = patient.masks.get(challenge.name)
            if mask is None or challenge.unit != unit:
                continue
            judged = np.zeros_like(mask)
            judged[list(patient.places)] = mask[list(patient.places)]
            if judged.any():
                volume = patient.volumes[modality]
                truth = volume.slices.astype(np.float64)
                result = truth.copy()
                result[list(patient.places)] = volume.range.physical(image.clamp(0, 1).numpy())
                found |= challenge.score(result, truth, judged)
        return found


def load_measures(
    with_lpips: bool, inception: Path | None, metrics: Sequence[str] = ()
) -> Measures:
    """EfficientNet's distances where they are installed; what else is asked for.

    Raises UserError where ``inception`` cannot be used, or one of ``metrics`` is no challenge's.
    """
    if unknown := [name for name in metrics if name not in CHALLENGES]:
        raise UserError(f"--metrics {unknown[0]}: expected {' or '.join(CHALLENGES)}")
    challenges = [CHALLENGES[name] for name in dict.fromkeys(metrics)]
    pairs: list[Perceptual] = []
    sets: list[SetDistance] = [] if inception is None else [fid(inception)]
    names, left_out = [], []
    try:
        network = load_perception()
        pairs.append(network.compare)
        sets.append(network.between)
        names.append(NETWORK)
    except UserError as error:
        left_out.append(str(error))
    if with_lpips:
        try:
            pairs.append(lpips())
            names.append("LPIPS")
        except UserError as error:
            left_out.append(str(error))
    return Measures(pairs, sets, names, challenges, left_out)


def check_challenges(
    challenges: Sequence[Challenge],
    prior: Trained,
    people: Mapping[str, str],
    slices: Slices,
) -> list[str]:
    """Who of {name: path} has no mask for a challenge, a sentence each.

    Raises UserError where a challenge can judge nothing: slices instead of whole volumes, no image
    of its unit, or nobody with a mask.
    """
    said = []
    physical = units(prior)
    for challenge in challenges:
        asked = f"--metrics {challenge.name}"
        if slices != ALL:
            raise UserError(f"{asked}: judges whole volumes; leave out --slices and --every")
        if not any(
            physical.get(m, (1.0, WITHOUT_UNIT))[1] == challenge.unit for m in prior.modalities
        ):
            raise UserError(
                f"{asked}: judges {challenge.judged}; the prior has {', '.join(prior.modalities)}"
            )
        without = [name for name, path in people.items() if not has_mask(path, challenge)]
        if len(without) == len(people):
            raise UserError(
                f"{asked}: nobody has a mask of {challenge.region}; put one beside the images, on "
                "their grid, and prepare again where they are a cohort"
            )
        if without:
            said.append(f"{asked}: {', '.join(without)} left out, without {challenge.region}")
    return said


def has_mask(path: str, challenge: Challenge) -> bool:
    """Whether a patient has a mask of one of the kinds that a challenge takes."""
    patients = Patients.at(path)
    if patients.cohort is not None:
        return any(
            patients.cohort.mask(patients.name, kind) is not None for kind in challenge.masks
        )
    return mask_file(Path(path), challenge) is not None


def read_mask(path: str, challenge: Challenge, volume: Volume) -> Mask | None:
    """(Z, H, W), bool, of the first kind that the patient has, on the grid of ``volume``."""
    patients = Patients.at(path)
    if patients.cohort is not None:
        labels = (patients.cohort.mask(patients.name, kind) for kind in challenge.masks)
        return next((found > 0 for found in labels if found is not None), None)
    file = mask_file(Path(path), challenge)
    return None if file is None else marked(file, volume.slices.shape, volume.affine)


def mask_file(folder: Path, challenge: Challenge) -> Path | None:
    """A patient's NIfTI file of the first kind of mask that it has. Raises UserError for two."""
    named = [(mask_of(path.name), path) for path in nifti_of(folder)]
    for kind in challenge.masks:
        files = [path for of, path in named if of == kind]
        if len(files) > 1:
            names = ", ".join(path.name for path in files)
            raise UserError(
                f"--metrics {challenge.name}: {folder} has {len(files)} masks that could be of "
                f"{challenge.region}: {names}; leave one"
            )
        if files:
            return files[0]
    return None
