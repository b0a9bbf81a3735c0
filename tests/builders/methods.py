"""A few slices, a question about them, and methods that learn from them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from any2all_core import Method, MethodSettings, Question
from any2all_core.named_methods import make_method
from any2all_core.noise import generator
from any2all_core.stack_format import StackFormat
from any2all_core.testing import MODALITIES, phantom

SIZE = 32
SETTINGS = MethodSettings(StackFormat.of_names(MODALITIES, (SIZE, SIZE)))


def method(name: str, more: str = "") -> Method:
    texts = more.split(":") if more else []
    return make_method(name, dict(text.split("=") for text in texts), "tiny")


def slices() -> torch.Tensor:
    """(4, M, H, W) in [0, 1]."""
    volumes = [torch.from_numpy(phantom(SIZE, 4, seed=k) / 200) for k in range(3)]
    return torch.stack(volumes).permute(3, 0, 1, 2).contiguous().clamp(0, 1)


def question(of: Method, x: torch.Tensor, seed: int = 0, everything: bool = False) -> Question:
    """One of a seed; with ``everything`` given, as far as the method takes it."""
    random = [generator(seed, b) for b in range(len(x))]
    present = torch.ones(x.shape[:2], dtype=torch.bool)
    given = of.given_in_training(present, random, 0.99)
    return Question(x, present, present if everything else given, random, 0.99)


def learn(
    of: Method, steps: int, asked: Callable[[int], Question]
) -> Iterator[tuple[Any, dict[str, float]]]:
    """A network that is trained, and what it minimises, after each step."""
    torch.manual_seed(0)
    network = of.build(SETTINGS)
    optimizers = of.optimizers(network)
    for step in range(steps):
        found = {}
        for part, loss in of.losses(network, asked(step)):
            network.zero_grad(set_to_none=True)
            loss.backward()
            optimizers[part].step()
            found[part] = float(loss.detach())
        yield network, found
