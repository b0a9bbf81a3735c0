"""Random numbers that belong to a slice and a draw, not to a batch."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from any2all_operators import UserError
from torch import Tensor

LONGEST = 100
"""Slices through which noise can be alike: all of a head's."""


def generator(*key: int) -> torch.Generator:
    """A generator seeded by a tuple of whole numbers, such as (seed, slice, draw)."""
    state = np.random.SeedSequence(key).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state))


class Noise:
    """Standard normal stacks (B, M, H, W); entry b comes from generators of its own.

    Seeded from (seed, slice, draw), so a result never depends on batch size, order, or the number
    of processes.
    """

    def __init__(
        self,
        generators: Sequence[torch.Generator],
        shape: tuple[int, int, int],
        device: torch.device | str = "cpu",
        mixing: Tensor | None = None,
    ) -> None:
        """mixing: (B, generators), rows of norm 1: z_b = Σ_g mixing_bg n_g; z_b = n_b if not given.

        device: where the numbers go; they are drawn on the CPU, hence the same everywhere.
        """
        self.generators = generators
        self.shape = shape
        self.device = device
        self.mixing = mixing

    @classmethod
    def of_slices(
        cls,
        seed: int,
        entries: Sequence[tuple[int, int]],
        shape: tuple[int, int, int],
        device: torch.device | str = "cpu",
        *,
        through: float = 0.0,
    ) -> Noise:
        """Of entries (slice, draw); the noise of two slices k, k' of one draw has the correlation

        exp(−(k − k')²/(2 through²)) from through = 1 on, none if ``through`` is 0, and less than
        that in between. It is the moving average
        z_k = Σ_j w_j n_{k+j}, w_j ∝ exp(−j²/through²), |j| ≤ 2 through, hence a slice's own
        whatever others are drawn beside it.
        """
        if not 0 <= through <= LONGEST:
            raise UserError(f"through {through:g} slices: expected 0 to {LONGEST}")
        if not through:
            return cls([generator(seed, k, draw) for k, draw in entries], shape, device)
        reach = math.ceil(2 * through)
        weights = torch.exp(-((torch.arange(-reach, reach + 1) / through) ** 2))
        weights = weights / weights.norm()
        keys = sorted({(k + j, draw) for k, draw in entries for j in range(2 * reach + 1)})
        place = {key: column for column, key in enumerate(keys)}
        mixing = torch.zeros(len(entries), len(keys))
        for row, (k, draw) in enumerate(entries):
            for j, weight in enumerate(weights):
                mixing[row, place[k + j, draw]] = weight
        return cls([generator(seed, *key) for key in keys], shape, device, mixing)

    def __call__(self) -> Tensor:
        """The next (B, M, H, W) of z ~ N(0, 1)."""
        draws = torch.stack([torch.randn(self.shape, generator=g) for g in self.generators])
        if self.mixing is not None:
            draws = torch.tensordot(self.mixing, draws, 1)
        return draws.to(self.device)
