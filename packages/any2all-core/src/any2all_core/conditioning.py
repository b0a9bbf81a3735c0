"""What a prior with a noise level for each modality is told of a measurement."""

from __future__ import annotations

import torch
from any2all_operators import Measurement
from torch import Tensor

from any2all_core.prior import Prior, Times, has_separate_levels


class Conditioning:
    """At which time each modality is while a sampler is at t: t_m = min(t, τ_m).

    An image that is there is data at a noise level of its own, y = x + n, so that √ᾱ(τ) (2y − 1)
    is x_τ at the time τ where σ_τ = 2 noise_std (the network's images span 2); τ = 0 for a clean
    one. Above τ it is held there: the prior conditions on it exactly. Below τ it is denoised along
    with the others, and its data has been used. Everything else is at t: what is missing, and what
    was measured through another operator (τ = T−1).

    A prior with one level for all has all of it at t. ``guided``: the modalities whose data has yet
    to enter by the sampler's own means, hence all that have data where the levels are shared.
    """

    def __init__(self, prior: Prior, measurement: Measurement) -> None:
        self.schedule = prior.schedule
        self.separate = has_separate_levels(prior)
        last = self.schedule.steps - 1
        self._images: dict[int, Tensor] = {}
        self._ceilings = [last] * len(measurement.data)
        guided = []
        for m, (name, operator) in enumerate(measurement.operator.operators.items()):
            image = operator.image(measurement.data[name]) if self.separate else None
            if image is not None:
                self._images[m] = image
                self._ceilings[m] = self._time_of(2 * operator.noise_std)
            elif measurement.data[name].numel():
                guided.append(name)
        self.guided = tuple(guided)

    def begin(self, noise: Tensor) -> Tensor:
        """The stack (B, M, H, W) at T−1: noise, and the images that are there at their τ."""
        if not self._images:
            return noise
        x_t = list(noise.unbind(1))
        for m, image in self._images.items():
            x_t[m] = self.schedule.alpha_bar[self._ceilings[m]].item() ** 0.5 * (2 * image - 1)
        return torch.stack(x_t, 1)

    def times(self, t: int) -> Times:
        """The time of each modality, (M,); t itself for a prior with one for all."""
        return [min(t, ceiling) for ceiling in self._ceilings] if self.separate else t

    def alpha_bars(self, t: int, t_next: int | None, like: Tensor) -> tuple[Tensor, Tensor]:
        """ᾱ(t_m) and ᾱ(t'_m), (M, 1, 1) each, on the device of ``like``; ᾱ' = 1 if t' is None."""
        alpha_bar = self._alpha_bar(t, like)
        return alpha_bar, (
            torch.ones_like(alpha_bar) if t_next is None else self._alpha_bar(t_next, like)
        )

    def _alpha_bar(self, t: int, like: Tensor) -> Tensor:
        times = [min(t, ceiling) for ceiling in self._ceilings]
        return self.schedule.alpha_bar[times].to(like)[:, None, None]

    def hold(self, x_t: Tensor, x_t_next: Tensor, t: int, t_next: int) -> Tensor:
        """``x_t_next``, and x_t for the images that stay at their τ."""
        if not self._images:
            return x_t_next
        held = torch.tensor([min(t, c) == min(t_next, c) for c in self._ceilings])
        return torch.where(held.to(x_t.device)[:, None, None], x_t, x_t_next)

    def _time_of(self, sigma: float) -> int:
        """The time whose σ is nearest."""
        return int((self.schedule.sigma - sigma).abs().argmin())
