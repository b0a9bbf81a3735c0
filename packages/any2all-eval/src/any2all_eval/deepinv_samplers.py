"""deepinv's DPS and DiffPIR with our prior, as samplers: ``deepinv-dps``, ``deepinv-diffpir``.

deepinv gets the prior as a denoiser of [0, 1] images, and our prox, because its own by conjugate
gradients is slower. It takes only one noise level: the largest of the measurement, or 0.01 if all
of it is clean. It draws its random numbers by the batch, so the result of a slice depends on the
other slices of the batch. It needs versions of torch and torchvision that fit each other: ``pip
install "any2all-eval[deepinv]"``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from any2all_core import Noise, Prior
from any2all_core.sampler import Step
from any2all_operators import BlockDiagonal, Identity, Measurement, UserError
from any2all_samplers.mmps import flatten, unflatten
from torch import Tensor

CLEAN_NOISE_STD = 0.01


@dataclass(frozen=True)
class DeepinvDiffPIR:
    """DiffPIR (Zhu 2023, arXiv 2305.08995); its result keeps the noise of its last step, 0.005."""

    steps: int = 50
    lambda_: float = 3.0
    zeta: float = 1.0

    def __call__(
        self,
        prior: Prior,
        measurement: Measurement,
        noise: Noise,
        progress: Step | None = None,
    ) -> Tensor:
        """(B, M, H, W) in [0, 1]."""
        deepinv = imported()
        level, y, physics = as_physics(measurement)
        sampler = deepinv.sampling.DiffPIR(
            as_denoiser(prior),
            deepinv.optim.data_fidelity.L2(),
            level,
            max_iter=self.steps,
            lambda_=self.lambda_,
            zeta=self.zeta,
        )
        seed_by(noise)
        stack: Tensor = sampler(y, physics)
        return stack.detach().float()


@dataclass(frozen=True)
class DeepinvDPS:
    """DPS (Chung 2023, arXiv 2209.14687)."""

    steps: int = 100
    weight: float = 1000.0
    guidance: Literal["default", "annealed"] = "default"

    def __call__(
        self,
        prior: Prior,
        measurement: Measurement,
        noise: Noise,
        progress: Step | None = None,
    ) -> Tensor:
        """(B, M, H, W) in [0, 1]."""
        deepinv = imported()
        _, y, physics = as_physics(measurement)
        options: Mapping[str, Any] = {"num_steps": self.steps, "weight": self.weight}
        if self.guidance != "default":
            options = {**options, "guidance": self.guidance}
        sampler = deepinv.sampling.DPS(as_denoiser(prior), dtype=torch.float32, **options)
        begin = noise()
        seed_by(noise)
        stack: Tensor = sampler(y, physics, x_init=tuple(begin.shape))
        return stack.detach().float()


def imported() -> Any:
    """Import deepinv. Raises UserError if it is not installed."""
    try:
        import deepinv
    except Exception as error:  # of torchvision, too
        raise UserError(
            f"deepinv can't be imported ({type(error).__name__}: {error}); pip install deepinv in "
            "an environment whose torch and torchvision fit each other"
        ) from None
    return deepinv


def seed_by(noise: Noise) -> None:
    """Seed torch's global generator with the next numbers of ``noise``."""
    torch.manual_seed(int(noise().double().sum().abs() * 1e6))


def as_denoiser(prior: Prior) -> Any:
    """The prior at its nearest time as a denoiser, E[x_0 | x_0 + sigma z] of [0, 1] images."""
    deepinv = imported()

    class Denoiser(deepinv.models.Denoiser):  # type: ignore[misc, name-defined]
        def forward(self, x: Tensor, sigma: Tensor | float, *_: object, **__: object) -> Tensor:
            level = 2 * float(torch.as_tensor(sigma).flatten()[0])
            t = int((prior.schedule.sigma - level).abs().argmin())
            alpha_bar = float(prior.schedule.alpha_bar[t])
            x0_hat = prior.denoise(alpha_bar**0.5 * (2 * x - 1).float(), t)
            return (x0_hat + 1) / 2

    return Denoiser()


def as_physics(measurement: Measurement) -> tuple[float, Tensor, Any]:
    """The noise level, the data as one real vector per slice (B, N), and deepinv's operator."""
    deepinv = imported()
    blocks = measurement.operator.operators
    level = max([b.noise_std for b in blocks.values() if b.noise_std] or [CLEAN_NOISE_STD])
    noisy = {
        m: replace(b, noise_std=level) if isinstance(b, Identity) else b for m, b in blocks.items()
    }
    operator, data = BlockDiagonal(noisy), measurement.data

    class Stack(deepinv.physics.LinearPhysics):  # type: ignore[misc, name-defined]
        def A(self, x: Tensor, **_: object) -> Tensor:
            return flatten(operator.forward(x.float()))

        def A_adjoint(self, y: Tensor, **_: object) -> Tensor:
            return operator.adjoint(unflatten(y.float(), data))

        def prox_l2(self, z: Tensor, y: Tensor, gamma: Tensor | float, **_: object) -> Tensor:
            weight = dict.fromkeys(data, float(gamma))
            return operator.prox(unflatten(y.float(), data), z.float(), weight)

    return level, flatten(data), Stack(noise_model=deepinv.physics.GaussianNoise(level))
