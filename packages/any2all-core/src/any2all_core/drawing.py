"""What to draw and how: the options of :func:`reconstruct` and :func:`solve`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypedDict

from torch import Tensor


class Kept(Protocol):
    """A store of finished batches, on the CPU."""

    def get(self, places: range) -> Tensor | None:
        """The stacks (B, M, H, W) of these places, or None if they are not finished."""
        ...

    def put(self, places: range, stacks: Tensor) -> None:
        """Store the stacks (B, M, H, W) of these places."""
        ...


@dataclass(frozen=True)
class Drawing:
    """What to draw and how to compute it.

    Parameters
    ----------
    shape
        (B, H, W); needed only if no modality has data.
    slice_ids
        Numbers of the B slices, which seed their noise; 0 ... B−1 if not given.
    seed
        Seed of all draws.
    draws
        Number of draws for each slice.
    through
        Correlation length of the noise across slices, in slices (see :meth:`Noise.of_slices`). It
        makes neighbouring slices continuous; each slice keeps its distribution. 0 draws each slice
        independently.
    batch_size
        Number of slices computed at a time. It does not change the result.
    progress
        Called once per network call.
    kept
        Store of finished batches. A batch that it holds, from an interrupted call with the same
        arguments, is not drawn again; every new batch is stored in it.
    """

    shape: tuple[int, int, int] | None = None
    slice_ids: Sequence[int] | None = None
    seed: int = 0
    draws: int = 1
    through: float = 0.0
    batch_size: int = 8
    progress: Callable[[], None] | None = None
    kept: Kept | None = None


class DrawOptions(TypedDict, total=False):
    """The fields of :class:`Drawing`, as keywords of :func:`reconstruct` and :func:`solve`."""

    shape: tuple[int, int, int] | None
    slice_ids: Sequence[int] | None
    seed: int
    draws: int
    through: float
    batch_size: int
    progress: Callable[[], None] | None
    kept: Kept | None
