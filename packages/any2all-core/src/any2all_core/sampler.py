"""What a sampler is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from any2all_operators import Measurement
from torch import Tensor

from any2all_core.noise import Noise
from any2all_core.prior import Prior

Step = Callable[[], None]


class Sampler(Protocol):
    """An algorithm that draws a stack given a prior and a measurement.

    A dataclass whose fields are its options. Returns (B, M, H, W) in [0, 1]. ``noise()`` gives
    fresh N(0, 1) of that shape; ``progress()``, if given, is called once per network call, of
    which there are ``steps``. The class may have ``presets``, {name: {option: value}}: settings
    other than the defaults that have a name; ``random`` = False, where its answer does not depend
    on the noise; and ``passes(prior, measurement)``, the passes of the network for a slice, forward
    or backward, where these are more than ``steps``.
    """

    steps: int

    def __call__(
        self,
        prior: Prior,
        measurement: Measurement,
        noise: Noise,
        progress: Step | None = None,
    ) -> Tensor: ...


def passes_of(sampler: Sampler, prior: Prior, measurement: Measurement) -> int:
    """The passes of the network, forward and backward, that a sampler takes for one slice."""
    own = getattr(sampler, "passes", None)
    return int(own(prior, measurement)) if own is not None else sampler.steps
