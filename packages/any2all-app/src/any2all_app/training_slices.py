"""Collect the slices for training and validation, and the prior's record of them."""

from __future__ import annotations

import functools
from collections.abc import Sequence, Sized
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from any2all_core.examples import Examples, InMemory
from any2all_core.loop import Progress, TrainingData
from any2all_core.objective import validation_slices
from any2all_core.prior_settings import PriorSettings
from any2all_core.stack_format import Grid, StackFormat
from any2all_data.appearance import Looks
from any2all_data.augment import augment
from any2all_data.cohort_entry import Entry
from any2all_data.cohort_slices import CohortSlices
from any2all_data.folder_slices import find_modalities, read_slices
from any2all_data.grid import common_spacing
from any2all_data.modality_names import known_name
from any2all_data.patient import modality_path
from any2all_data.patients import Patients
from any2all_data.store import CohortStore
from any2all_operators import UserError
from torch import Tensor

from any2all_app.observer import Count, Observer

READING = "reading patients"


@dataclass(frozen=True)
class TrainingSlices:
    """Slices for training, and the settings of a prior that is trained on them.

    - ``examples``: for training.
    - ``held_out``: (N, M, H, W) in [0, 1], of other patients.
    """

    examples: Examples
    held_out: Tensor
    settings: PriorSettings

    @cached_property
    def data(self) -> TrainingData:
        """The examples with random augmentation, and some of the held-out slices."""
        in_units = [modality.range is not None for modality in self.settings.format.modalities]
        changed = functools.partial(augment, in_units=in_units)
        return TrainingData(self.examples, validation_slices(self.held_out), changed)

    def __str__(self) -> str:
        """Return a sentence with the numbers of slices, the modalities and the size."""
        count, _, height, width = self.data.validation.shape
        return (
            f"trained on {len(self.examples)} slices, validated on {count} of other patients; "
            f"{', '.join(self.settings.modalities)} at {height} x {width}"
        )


def split_folders(
    found: Patients, validation: Path | None, wanted: tuple[str, ...] | None
) -> tuple[list[Path], list[Path], tuple[str, ...]]:
    """Return the folders of training patients and of held-out ones, and the modalities.

    The held-out patients are those of ``validation``, else the folder val, else a tenth of all.
    """
    patients = _folders(found, "train")
    if validation is not None:
        held_out = _folders(Patients.at(validation), "val")
    elif "val" in found.groups:
        held_out = _folders(found, "val")
    else:
        count = max(1, len(patients) // 10)
        if len(patients) < 2:
            raise UserError(f"{found.path}: has one patient; give more, or --validation FOLDER")
        patients, held_out = patients[:-count], patients[-count:]
    there = find_modalities(patients)
    names = _known_names(wanted, there, f"the patients of {found.path} have") or there
    return patients, held_out, names


def patients_with(
    store: CohortStore, wanted: tuple[str, ...] | None
) -> tuple[tuple[str, ...], dict[str, Entry], dict[str, Entry]]:
    """Return the modalities, and the patients of train and of val that have all of them.

    If val is empty, a tenth of the training patients is held out.
    """
    there = store.format.names
    names = _known_names(wanted, there, "the cohort has") or there
    patients, held_out = store.having(names, "train"), store.having(names, "val")
    if not held_out:
        count = max(1, len(patients) // 10)
        held_out = dict(list(patients.items())[-count:])
        patients = {p: e for p, e in patients.items() if p not in held_out}
    return names, patients, held_out


def too_few(store: CohortStore, names: Sequence[str]) -> UserError:
    """The error for a cohort in which nobody is left to train on."""
    expected = "one or more"
    if not store.having(names, "val"):
        expected = "two or more, because one is held out"
    return UserError(
        f"{store.url}: patients of train with {', '.join(names)}: "
        f"{len(store.having(names, 'train'))}; expected {expected}; see any2all cohort "
        f"{store.url}, or give fewer --modalities"
    )


def folder_slices(
    found: Patients,
    validation: Path | None,
    wanted: tuple[str, ...] | None,
    observer: Observer,
) -> TrainingSlices:
    """Read the slices of DATA/<patient>/<modality>.nii.gz, or of DATA/train."""
    patients, held_out, names = split_folders(found, validation, wanted)
    advance = Count(observer, READING, len(patients) + len(held_out))
    looks = Looks(names)
    slices = read_slices(patients, names, advance, observer.say, look=looks.add)
    check = read_slices(held_out, names, advance, observer.say)
    format_ = StackFormat.of_names(names, _size(slices))
    spacing = common_spacing([modality_path(patient, names[0]) for patient in patients])
    if spacing is not None:
        format_ = replace(format_, grid=Grid(spacing, names[0]))
    made_of = {"patients": _patient_counts(patients, held_out), "looks": looks.ranges()}
    settings = PriorSettings(format_, made_of)
    return TrainingSlices(InMemory(slices), check, settings)


def cohort_slices(
    store: CohortStore,
    wanted: tuple[str, ...] | None,
    observer: Observer,
    *,
    incomplete: bool,
    native: bool,
) -> TrainingSlices:
    """Return the slices of a cohort, which has splits and ranges of its own.

    ``incomplete`` says whether patients who lack modalities are used. ``native`` says whether their
    gaps stay missing in training. Otherwise a prior must have filled them.
    """
    names, patients, held_out = patients_with(store, wanted)
    lacking = {p: e for p, (e, _) in store.with_gaps(names).items()} if incomplete else {}
    filled = {} if native or not incomplete else _filled(store, names)
    if not store.having(names, "val"):
        count = len(held_out)
        observer.say(f"the cohort has no val patient: {count} of train are held out to validate")
    patients |= lacking
    if not patients:
        raise too_few(store, names)
    advance = Count(observer, READING, len(patients) + len(held_out))
    looks = Looks(names)
    examples = CohortSlices(store, patients, names, advance, drawn=not native, look=looks.add)
    check = store.slices(held_out, names, advance)
    corrected = any(entry.bias_corrected for entry in patients.values())
    grid = replace(store.format.known_grid, bias_corrected=corrected)
    made_of: dict[str, Any] = {
        "patients": _patient_counts(patients, held_out),
        "looks": looks.ranges(),
    }
    if store.virtual:
        made_of["virtual"] = True
    if native and lacking:
        observer.say(
            f"{len(lacking)} patients of train lack some of {', '.join(names)}: missing images "
            "do not enter the loss"
        )
        made_of["incomplete"] = len(lacking)
    if filled:
        observer.say(f"{len(filled)} patients of train have synthetic images, drawn by a prior")
        by = [entry.drawn_by for entry in filled.values()]
        made_of["drawn"] = {
            "patients": len(filled),
            "by": [entry for k, entry in enumerate(by) if entry not in by[:k]],
        }
    settings = PriorSettings(replace(store.format.select(names), grid=grid), training=made_of)
    return TrainingSlices(examples, check, settings)


HALF_SIZE_COST = 0.25
"""Duration of a step at half size, relative to a step at full size."""


def tell_step(observer: Observer, steps: int, progress: Progress, coarse: float = 0.0) -> None:
    """Show a step of ``steps``, and the held-out scores after a validation.

    ``coarse`` is the share of the steps, at the beginning, that use images of half the size.
    """
    speed = f"loss {progress.loss:.4f} · {progress.images_per_second:.1f} images/s"
    saved = (1 - HALF_SIZE_COST) * coarse * steps
    time = progress.step - min((1 - HALF_SIZE_COST) * progress.step, saved)
    share = time / (steps - saved)
    observer.progress("training", progress.step, steps, speed, share=share)
    if progress.validation is not None:
        figures = "  ".join(f"{k} {v:.4g}" for k, v in progress.validation.items())
        observer.say(f"step {progress.step}: {figures}")


def _folders(found: Patients, split: str) -> list[Path]:
    """Return the folders of a split's patients, or of all patients if there are no splits."""
    if found.is_one or found.cohort is not None:
        raise UserError(
            f"{found.path}: has no folders of patients; expected a cohort, or a folder of "
            "<patient>/<modality>.nii.gz"
        )
    paths = found.of(split) if found.groups else found.everybody
    return [Path(path) for path in paths.values()]


def _known_names(
    wanted: tuple[str, ...] | None, there: Sequence[str], who: str
) -> tuple[str, ...] | None:
    """Return the modalities that the given names mean, in any case and by their aliases."""
    try:
        return tuple(known_name(name, there, who) for name in wanted) if wanted else None
    except UserError as error:
        raise UserError(f"--modalities {','.join(wanted or ())}: {error}") from None


def _filled(store: CohortStore, names: Sequence[str]) -> dict[str, Entry]:
    """Return the training patients with filled gaps. Raises UserError unless all are filled."""
    lacking = store.with_gaps(names)
    filled = {p: e for p, (e, missing) in lacking.items() if set(missing) <= set(e.drawn)}
    if len(filled) < len(lacking):
        raise UserError(
            f"--incomplete: {len(lacking) - len(filled)} of the {len(lacking)} patients of train "
            f"who lack some of {', '.join(names)} have no drawn images, which a recipe with "
            f"levels=shared needs; run any2all fill {store.url} --prior PRIOR with a prior of "
            "these modalities, or use levels=separate"
        )
    return filled


def _patient_counts(patients: Sized, held_out: Sized) -> dict[str, int]:
    return {"train": len(patients), "val": len(held_out)}


def _size(slices: Tensor) -> tuple[int, int]:
    return slices.shape[2], slices.shape[3]
