"""Random numbers that belong to a slice and a draw, not to a batch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def generator(*key: int) -> torch.Generator:
    """A generator seeded by a tuple of whole numbers, such as (seed, slice, draw)."""
    state = np.random.SeedSequence(key).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state))


class Noise:
    """Standard normal stacks (B, M, H, W); entry b comes from a generator of its own.

    Seeded from (seed, slice, draw), so a result never depends on batch size, order, or the number
    of processes.
    """

    def __init__(
        self,
        generators: Sequence[torch.Generator],
        shape: tuple[int, int, int],
        device: torch.device | str = "cpu",
    ) -> None:
        """device: where the numbers go; they are drawn on the CPU, hence the same everywhere."""
        self.generators = generators
        self.shape = shape
        self.device = device

    def __call__(self) -> Tensor:
        """The next (B, M, H, W) of z ~ N(0, 1)."""
        draws = [torch.randn(self.shape, generator=g) for g in self.generators]
        return torch.stack(draws).to(self.device)
