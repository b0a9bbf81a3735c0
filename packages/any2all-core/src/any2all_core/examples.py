"""The examples that a prior is trained on, read on demand."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

T = TypeVar("T")


class Examples(Protocol):
    """Slices of patients. A modality that a patient lacks is NaN everywhere.

    Several threads may read at once.
    """

    def __len__(self) -> int: ...

    def read(self, indices: Sequence[int]) -> Tensor:
        """The stacks (B, M, H, W) of these indices, in [0, 1]."""
        ...


class InMemory:
    """Examples held in a tensor (N, M, H, W) in [0, 1]."""

    def __init__(self, slices: Tensor) -> None:
        self.slices = slices

    def __len__(self) -> int:
        return len(self.slices)

    def read(self, indices: Sequence[int]) -> Tensor:
        """The stacks (B, M, H, W) of these indices."""
        return self.slices[torch.as_tensor(indices)]


def places(count: int, batch: int, step: int, seed: int) -> list[int]:
    """Indices of the examples of a step: consecutive pieces of one permutation per epoch."""
    first = step * batch
    wanted = range(first, first + batch)
    orders = {
        epoch: np.random.default_rng((seed, epoch)).permutation(count)
        for epoch in {place // count for place in wanted}
    }
    return [int(orders[place // count][place % count]) for place in wanted]


def ahead(make: Callable[[int], T], steps: range, workers: int) -> Generator[T]:
    """Yield ``make(step)`` for every step in order, computing ``workers`` of them in advance."""
    pool, begun = ThreadPoolExecutor(workers), deque[Future[T]]()
    try:
        for step in steps:
            begun.append(pool.submit(make, step))
            if len(begun) > workers:
                yield begun.popleft().result()
        while begun:
            yield begun.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
