"""A solver of the reverse SDE that needs few steps."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from any2all_core import Conditioning, Noise
from torch import Tensor


class ReverseSDE:
    r"""The second-order multistep solver, from x_t and x̃_0 = E[x_0 | x_t, y] to x_{t'}.

    With h = log σ_t/σ_{t'}, and with x̃_0' and h' from the previous step,

    x_{t'} = √((1−ᾱ')/(1−ᾱ)) e^(−h) x_t + √ᾱ' (1 − e^(−2h)) D + √((1−ᾱ')(1 − e^(−2h))) z,
    D = x̃_0 + h/2h' (x̃_0 − x̃_0').

    Every modality has its own ᾱ and h. Where ᾱ' = 1, x_{t'} is x̃_0.

    References
    ----------
    Lu 2022, *DPM-Solver++*, arXiv 2211.01095, SDE-DPM-Solver++(2M).
    """

    def __init__(self, conditioning: Conditioning, noise: Noise) -> None:
        self.conditioning, self.noise = conditioning, noise
        self._before: tuple[Tensor, Tensor] | None = None

    def step(self, x_t: Tensor, x0_tilde: Tensor, at: Sequence[int], to: Sequence[int]) -> Tensor:
        """x_{t'}, (B, M, H, W); ``at`` and ``to`` are times of ``Conditioning.path``."""
        alpha_bar, alpha_bar_next = self.conditioning.alpha_bars(at, to, x_t)
        ends = alpha_bar_next == 1
        sigma, sigma_next = (((1 - a) / a).sqrt() for a in (alpha_bar, alpha_bar_next))
        # 0 if an image stays at its level or reaches its last step
        h = torch.where(ends, 0.0, (sigma / sigma_next.clamp(min=1e-12)).log())
        target = x0_tilde
        if self._before is not None:
            earlier, h_before = self._before
            ratio = torch.where(h_before > 0, h / (2 * h_before.clamp(min=1e-12)), 0.0)
            target = x0_tilde + ratio * (x0_tilde - earlier)
        self._before = x0_tilde, h
        fresh = 1 - (-2 * h).exp()
        kept = ((1 - alpha_bar_next) / (1 - alpha_bar).clamp(min=1e-12)).sqrt() * (-h).exp()
        moved = (
            kept * x_t
            + alpha_bar_next.sqrt() * fresh * target
            + ((1 - alpha_bar_next) * fresh).sqrt() * self.noise()
        )
        return self.conditioning.hold(x_t, torch.where(ends, x0_tilde, moved), at, to)
