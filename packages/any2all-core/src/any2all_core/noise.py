"""Random numbers that depend on the slice and the draw, not on the batch."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from any2all_operators import UserError
from torch import Tensor

LONGEST = 100
"""Largest correlation length of noise across slices: all slices of a head."""


def generator(*key: int) -> torch.Generator:
    """Make a generator that is seeded by several integers, such as (seed, slice, draw)."""
    state = np.random.SeedSequence(key).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state))


class Noise:
    """A source of standard normal stacks (B, M, H, W), with separate generators per entry.

    If the generators are seeded by (seed, slice, draw), a result never depends on the batch size,
    the order or the number of processes.

    Parameters
    ----------
    generators
        One generator per entry, or one per column of ``mixing``.
    shape
        (M, H, W).
    device
        Device of the result. The numbers are drawn on the CPU, so they are the same everywhere.
    mixing
        Weights (B, G) with rows of norm 1: entry b is z_b = Σ_g mixing_bg n_g, where n_g comes from
        generator g. Without it, z_b = n_b.
    """

    def __init__(
        self,
        generators: Sequence[torch.Generator],
        shape: tuple[int, int, int],
        device: torch.device | str = "cpu",
        mixing: Tensor | None = None,
    ) -> None:
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
        """Make the noise of slices, which may be correlated across slices.

        Slice k of a draw has the moving average z_k = Σ_j w_j n_{k+j} of independent noise n, with
        w_j ∝ exp(−j²/through²) and |j| ≤ 2 through. It does not depend on which other slices are
        drawn. For ``through`` of at least 1, the noise of the slices k and k' has the correlation
        exp(−(k − k')²/(2 through²)); below 1, the correlation is smaller.

        Parameters
        ----------
        seed
            Seed of the noise.
        entries
            (slice, draw) of each of the B entries.
        shape
            (M, H, W).
        device
            Device of the result.
        through
            Correlation length in slices; 0 for independent slices, at most 100.

        Returns
        -------
        Noise
            The source of noise (B, M, H, W).

        Raises
        ------
        UserError
            If ``through`` is out of range.
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
        """Draw the next stack z ~ N(0, 1), (B, M, H, W)."""
        draws = torch.stack([torch.randn(self.shape, generator=g) for g in self.generators])
        if self.mixing is not None:
            draws = torch.tensordot(self.mixing, draws, 1)
        return draws.to(self.device)
