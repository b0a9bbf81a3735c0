"""The optional metrics of a run, and the reasons why some were left out."""

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
from any2all_eval.masks import marked
from any2all_eval.metrics import Perceptual, SetDistance, fid, lpips
from any2all_eval.patients import ALL, Patient, Slices, units
from any2all_eval.perception import NETWORK, load_perception

WITHOUT_UNIT = "of [0, 1]"
"""Name for the unit of an image that has none."""


@dataclass(frozen=True)
class Measures:
    """The optional metrics of a run.

    ``pairs`` are metrics of slices and their truth, ``sets`` are metrics of unconditional draws,
    and ``names`` are the networks used. ``challenges`` are those whose metrics of whole volumes are
    computed. ``left_out`` has a sentence for each metric that was left out: the reason, and how to
    get it.
    """

    pairs: Sequence[Perceptual] = ()
    sets: Sequence[SetDistance] = ()
    names: Sequence[str] = ()
    challenges: Sequence[Challenge] = ()
    left_out: Sequence[str] = ()

    def with_masks(self, patient: Patient, path: str) -> Patient:
        """The patient with those masks of the challenges that it has."""
        if not self.challenges or not patient.volumes:
            return patient
        volume = next(iter(patient.volumes.values()))
        found = {c.name: read_mask(path, c, volume) for c in self.challenges}
        return replace(patient, masks={name: m for name, m in found.items() if m is not None})

    def of_volume(
        self, patient: Patient, modality: str, image: Tensor, unit: str
    ) -> dict[str, float]:
        """{metric: value} of a modality's judged slices (B, H, W) in [0, 1], with their unit.

        A slice that shows no head is not judged. It is replaced by the truth, and SynthRAD's mask
        ends there.
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
    """EfficientNet's distances if they are installed, and the other metrics that were requested.

    Raises UserError if ``inception`` can't be used, or if one of ``metrics`` is no challenge.
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
    """A sentence for each patient of {name: path} who has no mask for a challenge.

    Raises UserError if a challenge can judge nothing: with slices instead of whole volumes, without
    an image of its unit, or if nobody has a mask.
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
                "their grid, and prepare the patients again if they are in a cohort"
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
    """The first kind of mask that the patient has, (Z, H, W) bool, on the grid of ``volume``."""
    patients = Patients.at(path)
    if patients.cohort is not None:
        labels = (patients.cohort.mask(patients.name, kind) for kind in challenge.masks)
        return next((found > 0 for found in labels if found is not None), None)
    file = mask_file(Path(path), challenge)
    return None if file is None else marked(file, volume.slices.shape, volume.affine)


def mask_file(folder: Path, challenge: Challenge) -> Path | None:
    """The patient's NIfTI file of the first kind of mask. Raises UserError if there are two."""
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
