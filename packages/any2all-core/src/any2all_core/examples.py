"""What a prior is trained on, read when it is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

import numpy as np
import torch
from torch import Tensor


class Examples(Protocol):
    """Slices of patients; NaN throughout where a patient lacks a modality."""

    def __len__(self) -> int: ...

    def read(self, indices: Sequence[int]) -> Tensor:
        """Stacks (B, M, H, W) in [0, 1]."""
        ...


class InMemory:
    """Examples of a tensor (N, M, H, W) in [0, 1]."""

    def __init__(self, slices: Tensor) -> None:
        self.slices = slices

    def __len__(self) -> int:
        return len(self.slices)

    def read(self, indices: Sequence[int]) -> Tensor:
        """Stacks (B, M, H, W)."""
        return self.slices[torch.as_tensor(indices)]


def places(count: int, batch: int, step: int, seed: int) -> list[int]:
    """Which examples step ``step`` sees: consecutive pieces of one permutation an epoch."""
    first = step * batch
    wanted = range(first, first + batch)
    orders = {
        epoch: np.random.default_rng((seed, epoch)).permutation(count)
        for epoch in {place // count for place in wanted}
    }
    return [int(orders[place // count][place % count]) for place in wanted]


class Ahead:
    """Reads the next batch while the network is at work on this one."""

    def __init__(self, examples: Examples) -> None:
        self.examples = examples
        self._pool = ThreadPoolExecutor(1)
        self._next: tuple[list[int], Future[Tensor]] | None = None

    def read(self, indices: list[int], following: list[int]) -> Tensor:
        """The batch, and what follows it, if anything, begun; as ``examples.read(indices)``."""
        if self._next is not None and self._next[0] == indices:
            batch = self._next[1].result()
        else:
            batch = self.examples.read(indices)
        self._next = None
        if following:
            self._next = following, self._pool.submit(self.examples.read, following)
        return batch

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)
