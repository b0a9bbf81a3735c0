"""What a sampler is, and what answers a measurement."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from any2all_operators import Measurement
from torch import Tensor

from any2all_core.noise import Noise
from any2all_core.prior import Prior

Step = Callable[[], None]


class Solver(Protocol):
    """What answers a measurement: a prior with a sampler, or a method trained for the task.

    ``name``: of the sampler or the method; ``steps``: network calls of an answer; ``random``:
    whether it depends on the noise.
    """

    @property
    def name(self) -> str: ...
    @property
    def modalities(self) -> tuple[str, ...]: ...
    @property
    def device(self) -> torch.device: ...
    @property
    def steps(self) -> int: ...
    @property
    def random(self) -> bool: ...

    def __call__(
        self, measurement: Measurement, noise: Noise, progress: Step | None = None
    ) -> Tensor:
        """(B, M, H, W) in [0, 1]; noise and progress as of :class:`Sampler`."""
        ...


class Sampler(Protocol):
    """An algorithm that draws a stack given a prior and a measurement.

    A dataclass whose fields are its options. Returns (B, M, H, W) in [0, 1]. ``noise()`` gives
    fresh N(0, 1) of that shape; ``progress()``, if given, is called once per network call, of
    which there are ``steps``. The class may have ``presets``, {name: {option: value}}: settings
    other than the defaults that have a name; ``random`` = False, where its answer does not depend
    on the noise; and ``passes(prior, measurement)``, the passes of the network for a slice, forward
    or backward, where these are more than ``steps``.
    """

    @property
    def steps(self) -> int: ...

    def __call__(
        self,
        prior: Prior,
        measurement: Measurement,
        noise: Noise,
        progress: Step | None = None,
    ) -> Tensor: ...


@dataclass(frozen=True)
class Sampled:
    """A prior with a sampler, as a solver."""

    prior: Prior
    sampler: Sampler

    @property
    def name(self) -> str:
        return type(self.sampler).__name__.lower()

    @property
    def modalities(self) -> tuple[str, ...]:
        return self.prior.modalities

    @property
    def device(self) -> torch.device:
        return getattr(self.prior, "device", torch.device("cpu"))

    @property
    def steps(self) -> int:
        return self.sampler.steps

    @property
    def random(self) -> bool:
        return bool(getattr(self.sampler, "random", True))

    def passes(self, measurement: Measurement) -> int:
        """As the sampler says, or a forward pass a step."""
        own = getattr(self.sampler, "passes", None)
        return self.steps if own is None else int(own(self.prior, measurement))

    def __call__(
        self, measurement: Measurement, noise: Noise, progress: Step | None = None
    ) -> Tensor:
        return self.sampler(self.prior, measurement, noise, progress)


def passes_of(solver: Solver, measurement: Measurement) -> int:
    """The passes of the network, forward and backward, that a solver takes for one slice."""
    return solver.passes(measurement) if isinstance(solver, Sampled) else solver.steps
