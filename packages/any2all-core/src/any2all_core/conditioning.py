"""How a measurement conditions a prior with a separate noise level per modality."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from any2all_operators import Measurement
from torch import Tensor

from any2all_core.prior import Prior, Times, has_separate_levels
from any2all_core.schedule import LARGEST_SIGMA, Spacing

CLEAN = -1
"""The time of an image without noise, ᾱ = 1. The network receives it as time 0."""


class Conditioning:
    """The times of all modalities along a sampler's path from noise to images.

    An available image y = x + n is a sample at its own noise level: √ᾱ(τ) (2y − 1) is x_τ at the
    time τ with σ_τ = 2 noise_std, because the network's images span [−1, 1]. For a clean image, τ
    is CLEAN. While the other modalities are above τ, the image is held at τ, and the prior
    conditions on it exactly. Below τ, it is denoised together with the others. Missing modalities,
    and those measured through another operator, start at T−1.

    If the prior has one noise level for all modalities, all of them start at T−1 and share one t.

    Parameters
    ----------
    prior
        The prior of the M modalities.
    measurement
        The measurement of B slices.

    Attributes
    ----------
    schedule
        The prior's noise schedule.
    separate
        Whether the prior has a separate noise level per modality.
    guided
        Modalities whose data the sampler itself must use. If the noise level is shared, these are
        all modalities with data.
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
        """Choose the times of a sampler's network calls.

        Parameters
        ----------
        steps
            Number of network calls; 1 to the diffusion steps of the prior.
        spacing, start
            As in :meth:`Schedule.timesteps`.
        ahead
            Whether modalities measured through another operator are reconstructed first. They then
            take half of the steps, while the missing ones stay at T−1 and follow in the other half.
            This uses p(x | y) = p(measured | y) p(missing | measured). It has no effect if no
            modality is measured or none is missing, if the noise level is shared, or for one step.

        Returns
        -------
        list
            steps + 1 entries: the times (M,) of each network call, then CLEAN for all modalities.
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
        """Compute the stack at the first times.

        Parameters
        ----------
        noise
            N(0, 1) noise, (B, M, H, W).

        Returns
        -------
        Tensor
            x_t, (B, M, H, W): √ᾱ(τ) (2y − 1) for the available images y, and noise for the others.
        """
        if not self._images:
            return noise
        x_t, alpha_bar = list(noise.unbind(1)), self._alpha_bar(self._ceilings).tolist()
        for m, image in self._images.items():
            x_t[m] = alpha_bar[m] ** 0.5 * (2 * image - 1)
        return torch.stack(x_t, 1)

    def told(self, at: Sequence[int]) -> Times:
        """Convert the times ``at``, (M,), to the argument ``t`` of :meth:`Prior.denoise`.

        Returns
        -------
        Times
            One time per modality, with CLEAN as 0, or the largest time if the level is shared.
        """
        return [max(t, 0) for t in at] if self.separate else max(at)

    def alpha_bars(
        self, at: Sequence[int], to: Sequence[int], like: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Look up ᾱ before and after a step.

        Parameters
        ----------
        at, to
            Times (M,) before and after the step.
        like
            Tensor with the device and type of the result.

        Returns
        -------
        tuple
            ᾱ and ᾱ', (M, 1, 1) each; 1 at CLEAN.
        """
        alpha_bar, alpha_bar_next = (
            self._alpha_bar(times).to(like)[:, None, None] for times in (at, to)
        )
        return alpha_bar, alpha_bar_next

    def hold(self, x_t: Tensor, moved: Tensor, at: Sequence[int], to: Sequence[int]) -> Tensor:
        """Keep modalities that a step does not move.

        Parameters
        ----------
        x_t, moved
            The stack before and after the step, (B, M, H, W).
        at, to
            Times (M,) before and after the step.

        Returns
        -------
        Tensor
            ``x_t`` for the modalities that stay at their time, and ``moved`` for the others.
        """
        held = torch.tensor([before == after for before, after in zip(at, to, strict=True)])
        return torch.where(held.to(x_t.device)[:, None, None], x_t, moved)

    def _alpha_bar(self, times: Sequence[int]) -> Tensor:
        levels = self.schedule.alpha_bar[[max(t, 0) for t in times]]
        return torch.where(torch.tensor(times) == CLEAN, 1.0, levels)

    def _time_of(self, sigma: float) -> int:
        """The time whose σ is nearest to ``sigma``; CLEAN for 0."""
        return int((self.schedule.sigma - sigma).abs().argmin()) if sigma else CLEAN
