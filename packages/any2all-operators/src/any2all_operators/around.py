"""Base class of operators that wrap another operator."""

from __future__ import annotations

from abc import ABC
from collections.abc import Sequence

import torch
from torch import Tensor

from any2all_operators.operator import Operator


class Around(Operator, ABC):
    """An operator that wraps another one, ``scan``, and shares its data and its noise."""

    scan: Operator

    @property
    def noise_std(self) -> float:  # type: ignore[override]
        return self.scan.noise_std

    @property
    def acceleration(self) -> float:
        """Acceleration of the wrapped scan; 1 if the scan has none."""
        return float(getattr(self.scan, "acceleration", 1.0))

    def check(self, data: Tensor, modality: str) -> None:
        self.scan.check(data, modality)

    def noise(self, data: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
        return self.scan.noise(data, generators)

    def data_size(self, data: Tensor) -> int:
        return self.scan.data_size(data)
