"""What to draw and how: the options of :func:`reconstruct` and :func:`solve`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypedDict

from torch import Tensor


class Kept(Protocol):
    """Batches that are done: (B, M, H, W) of the places of a range, on the CPU."""

    def get(self, places: range) -> Tensor | None: ...

    def put(self, places: range, stacks: Tensor) -> None: ...


@dataclass(frozen=True)
class Drawing:
    """What is drawn, and how the work is done.

    ``shape``: (B, H, W), needed only where no modality is known. ``slice_ids``: numbers of the
    slices, which their noise is seeded with; 0 ... B−1 if not given. ``through``: over so many
    slices of a volume the noise of a draw is alike (Noise.of_slices), so that what is invented in
    one goes on in the next. Each slice is drawn from the same distribution as without.
    ``batch_size``: slices at a time, which changes no result. ``progress`` is called once for each
    call of the network. ``kept``: batches that an interrupted call of the same arguments has
    finished; they are not drawn again, and what is drawn is handed to it batch by batch.
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
