"""The interfaces of samplers and solvers."""

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
    """The interface of solvers of measurements: a prior with a sampler, or a trained method.

    Attributes
    ----------
    name
        Name of the sampler or the method.
    modalities
        Names of the M modalities, in the order of the channels.
    device
        Device on which the solver computes.
    steps
        Number of network calls for one answer.
    random
        Whether the answer depends on the noise.
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
        """Solve a measurement: (B, M, H, W) in [0, 1]; arguments as in :class:`Sampler`."""
        ...


class Sampler(Protocol):
    """The interface of algorithms that draw a stack given a prior and a measurement.

    A sampler is a dataclass whose fields are its options. The class may have more attributes:
    ``presets``, {name: {option: value}}; ``random`` = False if the answer does not depend on the
    noise; ``images_only`` = True if it takes clean, noisy and missing images and no other data; and
    ``passes(prior, measurement)``, the number of forward and backward passes per slice, if it
    exceeds ``steps``.

    Attributes
    ----------
    steps
        Number of network calls.
    """

    @property
    def steps(self) -> int: ...

    def __call__(
        self,
        prior: Prior,
        measurement: Measurement,
        noise: Noise,
        progress: Step | None = None,
    ) -> Tensor:
        """Draw one stack for each entry of the batch.

        Parameters
        ----------
        prior
            The prior.
        measurement
            The measurement of B slices.
        noise
            ``noise()`` returns fresh N(0, 1) noise (B, M, H, W).
        progress
            Called once per network call, if given.

        Returns
        -------
        Tensor
            (B, M, H, W) in [0, 1].
        """
        ...


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
        """The sampler's own number of passes, or by default one forward pass per step."""
        own = getattr(self.sampler, "passes", None)
        return self.steps if own is None else int(own(self.prior, measurement))

    def __call__(
        self, measurement: Measurement, noise: Noise, progress: Step | None = None
    ) -> Tensor:
        return self.sampler(self.prior, measurement, noise, progress)


def passes_of(solver: Solver, measurement: Measurement) -> int:
    """Number of forward and backward passes of the network that a solver takes for one slice."""
    return solver.passes(measurement) if isinstance(solver, Sampled) else solver.steps
