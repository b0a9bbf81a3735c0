"""What a method is that is trained for its task, as a prior is not: the group any2all.methods."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Any, ClassVar, Literal

import torch
from any2all_operators import Operator, UserError
from torch import Tensor, nn

from any2all_core.model_settings import ModelSettings
from any2all_core.noise import Noise

Ability = Literal["synthesis", "reconstruction", "generation"]
"""synthesis: from any clean images the others; reconstruction: an image from its scan, guided by
clean ones; generation: all images from nothing."""
NOTHING_GIVEN = 0.05
"""The share of a method's examples in which no image is given, if it is to generate."""


@dataclass(frozen=True)
class MethodSettings(ModelSettings):
    """What the weights and the options do not say. Stored in ``method.json``."""


@dataclass(frozen=True)
class Question:
    """Examples to learn from.

    ``truth``: (B, M, H, W) in [0, 1], augmented, 0 where a patient lacks the image; ``present``:
    (B, M), whether the patient has it; ``available``: (B, M), whether it is given. ``generators``:
    of each example, all of its randomness; ``done``: the share of the steps that were taken before.
    """

    truth: Tensor
    present: Tensor
    available: Tensor
    generators: Sequence[torch.Generator]
    done: float

    @cached_property
    def given(self) -> Tensor:
        """The truth where it is given, and 0 elsewhere, (B, M, H, W)."""
        return self.truth * self.available[:, :, None, None]

    @cached_property
    def wanted(self) -> Tensor:
        """(B, M): what is not given, and known."""
        return self.present & ~self.available

    @cached_property
    def noise(self) -> Noise:
        """N(0, 1) like the truth, fresh in each call."""
        count, height, width = self.truth.shape[1:]
        return Noise(self.generators, (count, height, width), self.truth.device)

    def uniform(self) -> Tensor:
        """A number of U[0, 1) for each example, (B,), fresh in each call."""
        numbers = [torch.rand(1, generator=g) for g in self.generators]
        return torch.cat(numbers).to(self.truth.device)


@dataclass(frozen=True)
class Method(ABC):
    """A network, what it minimises, and how it answers.

    A dataclass whose fields are its options; those of this class are what the shared training asks.
    A subclass gives ``abilities``, :meth:`build`, :meth:`losses`, and of :meth:`complete` and
    :meth:`recover` what it is able to. :func:`any2all_core.check_method` tests all of it. The class
    may have ``presets``, {name: {option: value}}, of which ``small`` is what the command line takes
    if told nothing and ``tiny`` what tests take; ``random`` = True where the answer depends on the
    noise.

    ``learning_rate`` rises linearly for ``warmup`` steps and falls linearly to zero over the last
    ``decay`` fraction of ``steps``; ``ema``: decay of the average of the weights, which answers, 0
    for the weights themselves; ``clip_norm``: the largest norm of a gradient, 0 for any.
    """

    steps: int = 7000
    batch_size: int = 16
    learning_rate: float = 2e-4
    warmup: int = 200
    decay: float = 0.35
    ema: float = 0.0
    clip_norm: float = 0.0
    seed: int = 0

    abilities: ClassVar[frozenset[Ability]] = frozenset()
    random: ClassVar[bool] = False
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size"):
            if getattr(self, name) < 1:
                raise UserError(f"method: {name}={getattr(self, name)}, expected at least 1")
        if not (self.learning_rate > 0 and 0 <= self.decay <= 1 and 0 <= self.ema < 1):
            raise UserError(
                f"method: learning_rate={self.learning_rate}, decay={self.decay}, ema={self.ema}; "
                "expected above 0, 0 to 1, and 0 to below 1"
            )
        if self.seed < 0 or self.warmup < 0 or self.clip_norm < 0:
            raise UserError(
                f"method: seed={self.seed}, warmup={self.warmup}, clip_norm={self.clip_norm}; "
                "expected at least 0"
            )

    @abstractmethod
    def build(self, settings: MethodSettings) -> nn.Module:
        """The untrained network of images like those; it may have parts.

        Raises UserError where the images do not suit it.
        """

    @abstractmethod
    def losses(self, network: Any, question: Question) -> Iterator[tuple[str, Tensor]]:
        """The losses of a step, one after another, each with the part that it trains.

        A part is a name of :meth:`optimizers`. Its optimizer takes its step before the next loss is
        asked for, so an adversary yields twice. Whatever is random comes from the question.
        """

    def optimizers(self, network: nn.Module) -> dict[str, torch.optim.Optimizer]:
        """{part: its optimizer}; here Adam for the whole network, ``network``."""
        return {"network": torch.optim.Adam(network.parameters(), lr=self.learning_rate)}

    def given_in_training(
        self, present: Tensor, generators: Sequence[torch.Generator], done: float
    ) -> Tensor:
        """Which images of examples are given, (B, M), of those that a patient has, (B, M).

        Here: uniform over all proper subsets of them that are not empty, each example for itself;
        empty with probability NOTHING_GIVEN where the method generates.
        """
        return proper_subsets(present, generators, "generation" in self.abilities)

    def targets(self) -> tuple[str, ...]:
        """The modalities whose scan :meth:`recover` takes, one of them at a time."""
        return ()

    def scan_in_training(self, settings: MethodSettings, target: str) -> Operator:
        """A scan of ``target`` like those it is trained on, by which it is judged."""
        raise NotImplementedError

    def takes(self, operator: Operator) -> bool:
        """Whether :meth:`recover` is made for scans of this kind; here for all."""
        return True

    @property
    def calls(self) -> int:
        """How often a network is called for an answer."""
        return 1

    def complete(self, network: Any, given: Tensor, available: Tensor, noise: Noise) -> Tensor:
        """Every image, (B, M, H, W) in [0, 1], from those that are given.

        given: (B, M, H, W) in [0, 1], 0 where ``available``, (B, M), is False; ``noise``: N(0, 1)
        of that shape, for a slice the same whatever batch it is in. What is said of a given image
        does not count: it is taken as it was given.
        """
        raise NotImplementedError

    def recover(self, network: Any, scan: Scan, guides: Guides, noise: Noise) -> Tensor:
        """Every image, (B, M, H, W), from the scan of one and the guides; others may be 0."""
        raise NotImplementedError


@dataclass(frozen=True)
class Scan:
    """What was measured of an image: y = A x + n, data (B, ...) of the modality ``place``."""

    data: Tensor
    operator: Operator
    place: int


@dataclass(frozen=True)
class Guides:
    """Clean images (B, M, H, W) in [0, 1], 0 where ``available``, (B, M), is False."""

    images: Tensor
    available: Tensor


def proper_subsets(
    present: Tensor,
    generators: Sequence[torch.Generator],
    nothing: bool = False,
    most_missing: int | None = None,
) -> Tensor:
    """Uniform over the subsets of what is present, (B, M), but all and none of it.

    nothing: whether none of it is drawn, too, with probability NOTHING_GIVEN; ``most_missing``: of
    what is present. Of a patient with one image nothing is given.
    """
    chosen = torch.zeros_like(present)
    for b, g in enumerate(generators):
        there = present[b].nonzero().flatten().tolist()
        empty = bool(torch.rand(1, generator=g) < NOTHING_GIVEN) and nothing
        draw = float(torch.rand(1, generator=g, dtype=torch.float64))
        most = len(there) - 1 if most_missing is None else min(most_missing, len(there) - 1)
        sets = [s for n in range(1, most + 1) for s in combinations(there, len(there) - n)]
        if sets and not empty:
            chosen[b, list(sets[int(draw * len(sets))])] = True
    return chosen
