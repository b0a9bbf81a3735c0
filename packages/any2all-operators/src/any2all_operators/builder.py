"""Builders of operators. A plugin may register a builder instead of an operator."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

from torch import Tensor

from any2all_operators.operator import Operator


class OperatorBuilder(Protocol):
    """A builder of operators that depend on the size of the image.

    It is a dataclass whose fields are its options.
    """

    def build(self, height: int, width: int) -> Operator:
        """Build the operator that simulates measurements of images (H, W)."""
        ...


class FileOperatorBuilder(OperatorBuilder, Protocol):
    """A builder that also reads measurements from files.

    Attributes
    ----------
    suffixes
        Suffixes of the files that it reads, such as ".h5" for <patient>/<modality>.h5. If several
        such files exist, the first suffix wins.
    """

    suffixes: ClassVar[tuple[str, ...]]

    def read(self, path: Path, height: int, width: int) -> Measured:
        """Read the measurement of images (H, W) from a file."""
        ...


@dataclass(frozen=True)
class Measured:
    """A measurement y = A x + n of Z slices, read from a file.

    Parameters
    ----------
    operator
        A.
    data
        y, (Z, ...), on the scale on which images lie in [0, 1].
    scale
        The value, in the unit of the file, that becomes 1 on that scale.
    details
        What was found in the file or assumed about it; it is copied into the report.
    """

    operator: Operator
    data: Tensor
    scale: float = 1.0
    details: Mapping[str, Any] = field(default_factory=dict)
