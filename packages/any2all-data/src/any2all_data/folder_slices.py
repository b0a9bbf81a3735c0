"""Read folders of patients as training slices."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from any2all_operators import UserError
from torch import Tensor

from any2all_data.coverage import covered
from any2all_data.one_grid import prepare_line
from any2all_data.patient import OtherGrid, read_patient, to_stack


def find_modalities(patients: Sequence[Path]) -> tuple[str, ...]:
    """Find the modalities that every patient has, T1 first, without masks."""
    labels = {"lesion", "lesions", "mask", "brain", "seg", "label"}
    sets = [{p.name.split(".nii")[0] for p in patient.glob("*.nii*")} for patient in patients]
    common = set.intersection(*sets) - labels
    if not common:
        raise UserError(f"{patients[0].parent}: its patients share no modality")
    return tuple(sorted(common, key=lambda name: (name != "T1", name)))


def read_slices(
    patients: Sequence[Path],
    modalities: Sequence[str],
    advance: Callable[[], None] = lambda: None,
    say: Callable[[str], None] = lambda text: None,
    *,
    look: Callable[[Tensor], None] = lambda stack: None,
) -> Tensor:
    """Read all slices that show a head, (N, M, H, W) in [0, 1].

    ``advance`` is called after each patient, ``look`` with each patient's slices, and ``say`` with
    each note on what was corrected or assumed about an image.

    Raises UserError that names both patients if their slices differ in shape.
    """
    stacks: list[Tensor] = []
    for patient in patients:
        try:
            volumes = read_patient(patient, modalities)
        except OtherGrid as error:
            line = prepare_line(patient.parent)
            raise UserError(f"{error}; make a cohort, which has one grid: {line}") from None
        stack = to_stack(volumes)
        for modality, volume in volumes.items():
            for note in volume.notes:
                say(f"{patient.name}: {modality}: {note}")
        if stacks and stack.shape[2:] != stacks[0].shape[2:]:
            raise UserError(
                f"{patient}: slices of {tuple(stack.shape[2:])}, but {patients[0]} has "
                f"{tuple(stacks[0].shape[2:])}; make a cohort, which has one size: "
                f"{prepare_line(patients[0].parent)}"
            )
        stacks.append(stack[covered(stack)])
        look(stacks[-1])
        advance()
    slices = torch.cat(stacks)
    if not len(slices):
        raise UserError(
            f"{patients[0].parent}: no slice of {', '.join(modalities)} shows a head (3 % of the "
            "pixels above a tenth of full scale in every modality); check the images"
        )
    return slices
