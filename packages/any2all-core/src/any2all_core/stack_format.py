"""The format of a stack's images: modalities, scaling, slice size and grid."""

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
    """The linear scaling u = clip((v − low)/(high − low), 0, 1) of physical values v.

    Parameters
    ----------
    low, high
        The physical values that become 0 and 1, in the unit of the modality.
    """

    low: float
    high: float

    def normalise(self, values: Array) -> Array:
        """Scale physical values to [0, 1].

        Parameters
        ----------
        values
            v of any shape, in the unit of the modality.

        Returns
        -------
        array
            u of the same shape, float32; values outside the range saturate.
        """
        return np.clip((values - self.low) / (self.high - self.low), 0, 1).astype(np.float32)

    def physical(self, normalised: Array) -> Array:
        """The inverse of :meth:`normalise` within the range.

        Parameters
        ----------
        normalised
            u of any shape, in [0, 1].

        Returns
        -------
        array
            v = low + u (high − low) of the same shape, float32, in the unit of the modality.
        """
        return (self.low + normalised * (self.high - self.low)).astype(np.float32)


@dataclass(frozen=True)
class ModalityFormat:
    """One modality of a stack.

    Parameters
    ----------
    name
        Name of the modality, such as T1.
    unit
        Unit of its physical values.
    scaling
        How values are scaled to [0, 1]; see :class:`ModalityKind`.
    range
        The values that become 0 and 1. None if each patient has its own, or if they are not fitted
        yet.
    kind
        The modality's row in a user's own table of kinds. None for the row of this name in the
        table of any2all-data.
    """

    name: str
    unit: str = ARBITRARY
    scaling: Scaling = "patient"
    range: Range | None = None
    kind: ModalityKind | None = None


@dataclass(frozen=True)
class Grid:
    """The voxel grid onto which a patient's images are resampled.

    Parameters
    ----------
    spacing
        Voxel size (x, y, z) in mm. None if every patient keeps that of its reference.
    reference
        The modality to which the others are registered.
    bias_corrected
        Whether N4 bias field correction was applied to MR.
    """

    spacing: tuple[float, float, float] | None = None
    reference: str = "T1"
    bias_corrected: bool = False


@dataclass(frozen=True)
class StackFormat:
    """The format of image stacks, shared by cohorts, priors and patients.

    Parameters
    ----------
    modalities
        The modalities in the order of the stack's channels.
    size
        (H, W), rows and columns of a slice.
    grid
        The voxel grid; None if it is not known.
    """

    modalities: tuple[ModalityFormat, ...]
    size: tuple[int, int]
    grid: Grid | None = None

    @classmethod
    def of_names(cls, names: Sequence[str], size: tuple[int, int]) -> StackFormat:
        """A format with default modalities of these names, scaled for each patient separately.

        Parameters
        ----------
        names
            Names of the modalities, in the order of the channels.
        size
            (H, W) in pixels.
        """
        return cls(tuple(ModalityFormat(name) for name in names), size)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the modalities, in the order of the channels."""
        return tuple(modality.name for modality in self.modalities)

    def __getitem__(self, name: str) -> ModalityFormat:
        """The modality with this name. Raises KeyError if there is none."""
        return self.modalities[self._place(name)]

    def select(self, names: Sequence[str]) -> StackFormat:
        """The format of these modalities alone, in this order.

        Parameters
        ----------
        names
            Names of the selected modalities.

        Raises
        ------
        KeyError
            If a name is unknown.
        """
        return replace(self, modalities=tuple(self[name] for name in names))

    @property
    def known_grid(self) -> Grid:
        """The grid. Raises UserError if it is not known."""
        if self.grid is None:
            raise UserError("the voxel size of these images is not known; give a Grid")
        return self.grid

    @property
    def ranges(self) -> dict[str, Range]:
        """{modality: its range}, for the modalities whose range is the same for all patients."""
        return {m.name: m.range for m in self.modalities if m.range is not None}

    def _place(self, name: str) -> int:
        if name not in self.names:
            raise KeyError(name)
        return self.names.index(name)

    def to_json(self) -> dict[str, Any]:
        """The JSON object that ``prior.json`` holds under ``images``."""
        return {
            "modalities": [_modality_to_json(modality) for modality in self.modalities],
            "size": list(self.size),
            "grid": None if self.grid is None else vars(self.grid),
        }

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> StackFormat:
        """The inverse of :meth:`to_json`.

        Parameters
        ----------
        told
            The JSON object.

        Raises
        ------
        KeyError, TypeError, ValueError, UserError
            If the object is malformed.
        """
        modalities = tuple(_modality_from_json(one) for one in told["modalities"])
        return cls(modalities, size_of(told["size"]), grid_of(told.get("grid")))


def size_of(told: Sequence[int]) -> tuple[int, int]:
    """Read (H, W) from a list. Raises TypeError or ValueError."""
    height, width = map(int, told)
    return height, width


def grid_of(told: Mapping[str, Any] | None) -> Grid | None:
    """Read a grid from a file's content. Raises KeyError, TypeError or ValueError."""
    if told is None:
        return None
    spacing: tuple[float, float, float] | None = None
    if told["spacing"] is not None:
        x, y, z = map(float, told["spacing"])
        spacing = (x, y, z)
    corrected = told.get("bias_corrected", told.get("bias_correct", False))
    return Grid(spacing, str(told["reference"]), bool(corrected))


def modality_of_normalisation(name: str, told: Mapping[str, Any]) -> ModalityFormat:
    """Read a modality from the entry of a cohort or of a prior of format 1.

    ``told`` is {"unit", "low", "high", "fitted_on"}. Without "low" and "high", each patient is
    scaled separately.
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
