"""What the images of a stack are: which modalities, how they are scaled, of what size and grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from any2all_operators import UserError

from any2all_core.modality_kind import ARBITRARY, ModalityKind, Scaling, pair

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Range:
    """The physical values that are 0 and 1: u = clip((v − low)/(high − low), 0, 1)."""

    low: float
    high: float

    def normalise(self, values: Array) -> Array:
        """To [0, 1]; what lies outside the range saturates."""
        return np.clip((values - self.low) / (self.high - self.low), 0, 1).astype(np.float32)

    def physical(self, normalised: Array) -> Array:
        """v = low + u (high − low), the inverse within the range."""
        return (self.low + normalised * (self.high - self.low)).astype(np.float32)


@dataclass(frozen=True)
class ModalityFormat:
    """One modality of a stack.

    ``unit``: of its physical values; ``scaling``: how they become [0, 1]; ``range``: the values
    that become 0 and 1, None where each patient has its own or they are not fitted yet; ``kind``:
    its row of a table of one's own, None for the row of its name in the table of any2all-data.
    """

    name: str
    unit: str = ARBITRARY
    scaling: Scaling = "patient"
    range: Range | None = None
    kind: ModalityKind | None = None


@dataclass(frozen=True)
class Grid:
    """The voxels that a patient's images are put on.

    ``spacing``: mm of (x, y, z) voxels, None where every patient keeps those of its reference;
    ``reference``: the modality that the others are registered to; ``bias_corrected``: whether N4
    was applied to MR.
    """

    spacing: tuple[float, float, float] | None = None
    reference: str = "T1"
    bias_corrected: bool = False


@dataclass(frozen=True)
class StackFormat:
    """The images that a cohort holds, a prior knows and a patient is read as.

    ``modalities``: in the order of the stack's channels; ``size``: (H, W), rows and columns of a
    slice; ``grid``: None where it is not known.
    """

    modalities: tuple[ModalityFormat, ...]
    size: tuple[int, int]
    grid: Grid | None = None

    @classmethod
    def of_names(cls, names: Sequence[str], size: tuple[int, int]) -> StackFormat:
        """Images of which only the names and the size are known: each patient scales its own."""
        return cls(tuple(ModalityFormat(name) for name in names), size)

    @property
    def names(self) -> tuple[str, ...]:
        """Of the modalities."""
        return tuple(modality.name for modality in self.modalities)

    def __getitem__(self, name: str) -> ModalityFormat:
        """The modality of a name. Raises KeyError."""
        return self.modalities[self._place(name)]

    def select(self, names: Sequence[str]) -> StackFormat:
        """The same with these of its modalities alone, in this order."""
        return replace(self, modalities=tuple(self[name] for name in names))

    @property
    def known_grid(self) -> Grid:
        """The grid. Raises UserError where it is not known."""
        if self.grid is None:
            raise UserError("the voxel size of these images is not known; give a Grid")
        return self.grid

    @property
    def ranges(self) -> dict[str, Range]:
        """{modality: the values that become 0 and 1} of those that are alike for everybody."""
        return {m.name: m.range for m in self.modalities if m.range is not None}

    def _place(self, name: str) -> int:
        if name not in self.names:
            raise KeyError(name)
        return self.names.index(name)

    def to_json(self) -> dict[str, Any]:
        """As ``prior.json`` has it under ``images``."""
        return {
            "modalities": [_modality_to_json(modality) for modality in self.modalities],
            "size": list(self.size),
            "grid": None if self.grid is None else vars(self.grid),
        }

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> StackFormat:
        """The inverse of :meth:`to_json`. Raises KeyError, TypeError, ValueError or UserError."""
        modalities = tuple(_modality_from_json(one) for one in told["modalities"])
        return cls(modalities, size_of(told["size"]), grid_of(told.get("grid")))


def size_of(told: Sequence[int]) -> tuple[int, int]:
    """(H, W) of a list. Raises TypeError or ValueError."""
    height, width = map(int, told)
    return height, width


def grid_of(told: Mapping[str, Any] | None) -> Grid | None:
    """The grid that a file tells of. Raises KeyError, TypeError or ValueError."""
    if told is None:
        return None
    spacing: tuple[float, float, float] | None = None
    if told["spacing"] is not None:
        x, y, z = map(float, told["spacing"])
        spacing = (x, y, z)
    corrected = told.get("bias_corrected", told.get("bias_correct", False))
    return Grid(spacing, str(told["reference"]), bool(corrected))


def modality_of_normalisation(name: str, told: Mapping[str, Any]) -> ModalityFormat:
    """A modality as cohorts, and priors of format 1, tell of it.

    told: {"unit", "low", "high", "fitted_on"}; without constants each patient has its own.
    """
    unit = str(told.get("unit", ARBITRARY))
    if "low" not in told:
        return ModalityFormat(name, unit)
    scaling: Scaling = "group" if "fitted_on" in told else "fixed"
    return ModalityFormat(name, unit, scaling, Range(float(told["low"]), float(told["high"])))


def _modality_to_json(modality: ModalityFormat) -> dict[str, Any]:
    told: dict[str, Any] = {
        "name": modality.name,
        "unit": modality.unit,
        "scaling": modality.scaling,
        "range": None if modality.range is None else [modality.range.low, modality.range.high],
    }
    return told | ({} if modality.kind is None else {"kind": modality.kind.to_json()})


def _modality_from_json(told: Mapping[str, Any]) -> ModalityFormat:
    name, kind = str(told["name"]), told.get("kind")
    return ModalityFormat(
        name,
        str(told["unit"]),
        told["scaling"],
        None if told["range"] is None else Range(*pair(told["range"], f"{name}: range")),
        None if kind is None else ModalityKind.from_json(kind),
    )
