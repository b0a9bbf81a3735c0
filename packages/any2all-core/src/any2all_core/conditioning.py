"""What a prior with a noise level for each modality is told of a measurement."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from any2all_operators import Measurement
from torch import Tensor

from any2all_core.prior import Prior, Times, has_separate_levels
from any2all_core.schedule import LARGEST_SIGMA, Spacing

CLEAN = -1
"""The time of an image without noise, ᾱ = 1, which the network is told as 0."""


class Conditioning:
    """The times of all modalities on a sampler's way from noise to images.

    An image that is there is data at a noise level of its own, y = x + n, so that √ᾱ(τ) (2y − 1)
    is x_τ at the time τ where σ_τ = 2 noise_std (the network's images span 2); of a clean one τ is
    CLEAN. While the others are above τ it is held there: the prior conditions on it exactly. Below
    τ it is denoised along with the others, and its data has been used. Everything else starts at
    T−1: what is missing, and what was measured through another operator.

    A prior with one level for all has all of it at one t. ``guided``: the modalities whose data has
    yet to enter by the sampler's own means, hence all that have data where the levels are shared.
    """

    def __init__(self, prior: Prior, measurement: Measurement) -> None:
        self.schedule = prior.schedule
        self.separate = has_separate_levels(prior)
        self._images: dict[int, Tensor] = {}
        self._ceilings = [self.schedule.steps - 1] * len(measurement.data)
        self._missing: list[int] = []
        guided = []
        for m, (name, operator) in enumerate(measurement.operator.operators.items()):
            data = measurement.data[name]
            image = operator.image(data) if self.separate else None
            if image is not None:
                self._images[m] = image
                self._ceilings[m] = self._time_of(2 * operator.noise_std)
            elif data.numel():
                guided.append(name)
            else:
                self._missing.append(m)
        self.guided = tuple(guided)

    def path(
        self,
        steps: int,
        spacing: Spacing = "sigma",
        start: float = LARGEST_SIGMA,
        ahead: bool = False,
    ) -> list[tuple[int, ...]]:
        """The times (M,) of each network call, and CLEAN for all at the end: steps + 1 entries.

        ``spacing``, ``start``: as in ``Schedule.timesteps``. ``ahead``: what was measured goes
        first, in half of the steps, while what is missing stays at T−1; it is then an image like
        those that are there, and what is missing follows in the other half. That is
        p(x | y) = p(measured | y) p(missing | measured), as y says nothing else of what is missing.
        Where nothing is missing or measured, or the levels are shared, there is one way for all.
        """
        last = self.schedule.steps - 1
        done = (CLEAN,) * len(self._ceilings)
        ahead = ahead and self.separate and bool(self.guided and self._missing) and steps > 1
        first = steps // 2 if ahead else steps
        times = [
            [min(t, ceiling) for ceiling in self._ceilings]
            for t in self.schedule.timesteps(first, spacing, start)
        ]
        if ahead:
            for at in times:
                for m in self._missing:
                    at[m] = last
            times += [
                [t if m in self._missing else CLEAN for m in range(len(done))]
                for t in self.schedule.timesteps(steps - first, spacing, start)
            ]
        return [*map(tuple, times), done]

    def begin(self, noise: Tensor) -> Tensor:
        """The stack (B, M, H, W) at the first times: noise, and the images that are there."""
        if not self._images:
            return noise
        x_t, alpha_bar = list(noise.unbind(1)), self._alpha_bar(self._ceilings).tolist()
        for m, image in self._images.items():
            x_t[m] = alpha_bar[m] ** 0.5 * (2 * image - 1)
        return torch.stack(x_t, 1)

    def told(self, at: Sequence[int]) -> Times:
        """What ``Prior.denoise`` is told at these times; one of them if the prior has one level."""
        return [max(t, 0) for t in at] if self.separate else max(at)

    def alpha_bars(
        self, at: Sequence[int], to: Sequence[int], like: Tensor
    ) -> tuple[Tensor, Tensor]:
        """ᾱ and ᾱ' of each modality, (M, 1, 1) each, on the device of ``like``."""
        alpha_bar, alpha_bar_next = (
            self._alpha_bar(times).to(like)[:, None, None] for times in (at, to)
        )
        return alpha_bar, alpha_bar_next

    def hold(self, x_t: Tensor, moved: Tensor, at: Sequence[int], to: Sequence[int]) -> Tensor:
        """``moved``, and x_t for the modalities that stay at their time."""
        held = torch.tensor([before == after for before, after in zip(at, to, strict=True)])
        return torch.where(held.to(x_t.device)[:, None, None], x_t, moved)

    def _alpha_bar(self, times: Sequence[int]) -> Tensor:
        levels = self.schedule.alpha_bar[[max(t, 0) for t in times]]
        return torch.where(torch.tensor(times) == CLEAN, 1.0, levels)

    def _time_of(self, sigma: float) -> int:
        """The time whose σ is nearest; CLEAN for none."""
        return int((self.schedule.sigma - sigma).abs().argmin()) if sigma else CLEAN
