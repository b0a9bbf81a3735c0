"""How an operator is made for a patient: what a plugin may register instead of an operator."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

from torch import Tensor

from any2all_operators.operator import Operator


class OperatorBuilder(Protocol):
    """A dataclass whose fields are options, for operators that depend on the image's size.

    ``build(height, width)`` gives the operator for images (H, W), to simulate a measurement with.
    """

    def build(self, height: int, width: int) -> Operator: ...


class FileOperatorBuilder(OperatorBuilder, Protocol):
    """A builder that also reads measurements from files of its own kind.

    ``suffixes``: of the files it reads, as in <patient>/<modality>.h5, the first that exists.
    """

    suffixes: ClassVar[tuple[str, ...]]

    def read(self, path: Path, height: int, width: int) -> Measured: ...


@dataclass(frozen=True)
class Measured:
    """A measurement read from a file: y = A x + n of Z slices.

    data: (Z, ...) for ``operator``, on the scale where images lie in [0, 1]; ``scale``: the value
    in the file's unit that is 1 there; ``details``: what was found out or assumed, for the report.
    """

    operator: Operator
    data: Tensor
    scale: float = 1.0
    details: Mapping[str, Any] = field(default_factory=dict)
