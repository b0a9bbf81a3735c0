"""Read slices of a cohort on access, in [0, 1]."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from any2all_core.stack_format import Range
from any2all_operators import UserError
from torch import Tensor

from any2all_data.cohort_entry import Entry
from any2all_data.coverage import covered

if TYPE_CHECKING:
    from any2all_data.store import CohortStore


class PatientStack:
    """A patient's images in [0, 1], measured or drawn, read when they are indexed by slice.

    A modality with neither is NaN.
    """

    def __init__(
        self,
        store: CohortStore,
        patient: str,
        entry: Entry,
        modalities: Sequence[str],
        *,
        drawn: bool = True,
    ) -> None:
        """``drawn`` says whether images drawn by a prior replace the missing ones."""
        fixed = store.format.ranges
        ranges = store.ranges(entry, fixed)
        self._parts: list[tuple[str, int, Range] | None] = []
        for m in modalities:
            if m in entry.present:
                place = store.format.names.index(m)
                self._parts.append(("images", place, ranges[m]))
            elif m in entry.drawn and drawn:
                full_scale = Range(0.0, 1.0)
                self._parts.append(("drawn", entry.drawn.index(m), fixed.get(m, full_scale)))
            else:
                self._parts.append(None)
        self._arrays = {part[0]: store.array(patient, part[0]) for part in self._parts if part}

    def __getitem__(self, z: int | slice) -> Tensor:
        """Return (M, H, W) for one slice, (Z, M, H, W) for several."""
        values = {name: array[z] for name, array in self._arrays.items()}
        some = next(iter(values.values()))[..., 0, :, :]
        nothing = np.full_like(some, np.nan, dtype=np.float32)
        images = [
            part[2].normalise(values[part[0]][..., part[1], :, :]) if part else nothing
            for part in self._parts
        ]
        return torch.from_numpy(np.stack(images, -3))


class CohortSlices:
    """The slices of patients that show a head. An image neither measured nor drawn is NaN.

    Slices are read on access, so memory does not grow with the cohort.
    """

    def __init__(
        self,
        store: CohortStore,
        patients: Mapping[str, Entry],
        modalities: Sequence[str],
        advance: Callable[[], None] = lambda: None,
        *,
        drawn: bool = True,
        look: Callable[[Tensor], None] = lambda stack: None,
    ) -> None:
        """``look`` is called with each patient's slices that show a head, (Z, M, H, W)."""
        self._stacks: list[PatientStack] = []
        self._places: list[tuple[int, int]] = []
        for k, (patient, entry) in enumerate(patients.items()):
            stack = PatientStack(store, patient, entry, modalities, drawn=drawn)
            self._stacks.append(stack)
            images = stack[:]
            shown = covered(images)
            look(images[shown])
            self._places += [(k, int(z)) for z in shown.nonzero()]
            advance()
        if not self._places:
            raise UserError(f"{store.url}: no slice of a head in {len(patients)} patients")

    def __len__(self) -> int:
        return len(self._places)

    def read(self, indices: Sequence[int]) -> Tensor:
        """Read stacks (B, M, H, W) in [0, 1]."""
        return torch.stack([self._stacks[k][z] for k, z in (self._places[i] for i in indices)])
