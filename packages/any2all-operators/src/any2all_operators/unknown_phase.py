"""A scan of complex images whose phase is unknown."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from any2all_operators.around import Around
from any2all_operators.errors import UserError
from any2all_operators.operator import Operator, Prox

SPREAD = 0.3
"""Standard deviation of the phase around its smooth part, in radians; fitted on validation data."""
FAINTEST = 0.02
"""Lower limit of the image in the stiffness ``a``, in [0, 1] units."""
NEAR_ERROR = 0.02
"""Assumed error of the image that :meth:`UnknownPhase.near` receives, in [0, 1] units."""
NEAR_STEPS = 5


@dataclass(frozen=True, eq=False)
class UnknownPhase(Around):
    r"""y = B (x e^{iφ}) + n, where x is the magnitude that a prior describes and φ is unknown.

    For a given φ, A = B diag(e^{iφ}) is linear, with A* y = Re(e^{−iφ} · B* y).

    The phase may differ at every pixel, but is expected to lie within ``SPREAD`` of 0. ``prox``
    minimises

    weight/2 ‖B z − y‖² + 1/2 Σ (1−a) (|z| − anchor)² + a |z − anchor|²,
    a = r²/(r² + (SPREAD · anchor)²), r² = weight noise_std²,

    over complex images z = u e^{iφ} and returns u = |z|. r is the error that a sampler expects of
    its anchor. While r is large, the phase stays close to its smooth part; as r falls, the phase
    follows the data.

    The minimiser is found by majorisation. With φ the phase of the current z, the next z is
    argmin weight/2 ‖B z − y‖² + 1/2 ‖z − ((1−a) e^{iφ} + a) anchor‖². Such a step never raises the
    objective. ``prox_of`` takes one step per call and starts from the phase of the previous call,
    so the phase improves over the steps of a sampler.

    Parameters
    ----------
    scan
        B, an operator with ``complex_image``. A smooth estimate of the phase, if there is one, is
        part of its coil maps.
    phase
        Estimate of φ in radians, (B, H, W) or (H, W); 0 if not given.

    Raises
    ------
    UserError
        If the images of the scan are real.
    """

    scan: Operator
    phase: Tensor | None = None

    def __post_init__(self) -> None:
        if not self.scan.complex_image:
            raise UserError(
                f"UnknownPhase of {type(self.scan).__name__}: its images are real; expected an "
                "operator with complex_image=True"
            )

    def select(self, index: Tensor) -> UnknownPhase:
        phase = self.phase
        if phase is not None and phase.ndim == 3:
            phase = phase[index]
        return UnknownPhase(self.scan.select(index), phase)

    def forward(self, image: Tensor) -> Tensor:
        return self.scan.forward(self._turn(image) * image)

    def adjoint(self, data: Tensor) -> Tensor:
        back = self.scan.adjoint(data)
        return (self._turn(back).conj() * back).real

    def prox(self, data: Tensor, anchor: Tensor, weight: float) -> Tensor:
        return self.prox_of(data)(anchor, weight)

    def prox_of(self, data: Tensor) -> Prox:
        """One majorisation step per call, which starts from the phase of the previous call."""
        solve = self.scan.prox_of(data)
        turn: Tensor | None = None

        def prox(anchor: Tensor, weight: float) -> Tensor:
            nonlocal turn
            turn = self._turn(anchor) if turn is None else turn
            z = solve(self.expected(anchor, turn, weight), weight)
            turn = _direction(z, turn)
            return z.abs()

        return prox

    def near(self, data: Tensor, image: Tensor) -> UnknownPhase:
        """The operator with the phase that best explains the data, for images near ``image``."""
        solve, turn = self.scan.prox_of(data), self._turn(image)
        weight = (NEAR_ERROR / self.noise_std) ** 2 if self.noise_std else math.inf
        for _ in range(NEAR_STEPS):
            turn = _direction(solve(self.expected(image, turn, weight), weight), turn)
        return replace(self, phase=turn.angle())

    def _turn(self, image: Tensor) -> Tensor:
        """e^{iφ}, expanded to images (B, H, W)."""
        phase = torch.zeros((), device=image.device) if self.phase is None else self.phase
        return torch.polar(torch.ones_like(phase), phase).expand(image.shape)

    def expected(self, anchor: Tensor, turn: Tensor, weight: float) -> Tensor:
        """((1−a) e^{iφ} + a) anchor for ``turn`` = e^{iφ}, complex (B, H, W)."""
        a = self.stiffness(anchor, weight)
        return ((1 - a) * turn + a) * anchor

    def stiffness(self, anchor: Tensor, weight: float) -> Tensor:
        """a = r²/(r² + (SPREAD · anchor)²), (B, H, W); here 0 for an infinite weight."""
        if math.isinf(weight):
            return torch.zeros_like(anchor)
        error = weight * self.noise_std**2
        return error / (error + (SPREAD * anchor.clamp(min=FAINTEST)) ** 2)


def _direction(z: Tensor, otherwise: Tensor) -> Tensor:
    """z/|z|, or ``otherwise`` where z is 0."""
    magnitude = z.abs()
    return torch.where(magnitude > 0, z / magnitude.clamp(min=1e-12), otherwise)
