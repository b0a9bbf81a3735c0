"""The phase of simulated MRI (none, smooth or rough) and its estimate from the data."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from any2all_operators import Around, Operator, SenseFourier, UnknownPhase
from torch import Tensor

from any2all_mri.calibration import judged_phase, with_fine_phase, with_phase
from any2all_mri.calibration_centre import calibration_size
from any2all_mri.held_out import looked_at

Phase = Literal["auto", "none", "smooth", "rough"]
BAND, CORNER = 0.75, 0.05
"""Highest frequency of the rough phase, and where its decay begins, relative to Nyquist."""
ROUGHNESS, JUMP = 0.5, 1.5
"""Standard deviation of the rough phase, and its jump at the sinuses, in radians."""


@dataclass(frozen=True, eq=False)
class SimulatedPhase(Around):
    """y = M F S (x e^{iφ}) + n with a phase φ that only the simulation knows.

    ``scan`` is M F S, with ``complex_image``. ``phase`` is φ, (H, W) in radians. ``estimated``
    gives the operator that a reconstruction may use.
    """

    scan: SenseFourier
    phase: Tensor

    def forward(self, image: Tensor) -> Tensor:
        return self.scan.forward(torch.polar(torch.ones_like(self.phase), self.phase) * image)

    def adjoint(self, data: Tensor) -> Tensor:
        back = self.scan.adjoint(data)
        return (torch.polar(torch.ones_like(self.phase), -self.phase) * back).real

    def estimated(self, data: Tensor) -> Operator:
        """Return the scan with each slice's smooth phase, estimated from the data.

        The rest of the phase stays unknown, unless a real image predicts held-out samples better
        than a complex one. Then there is no rest.
        """
        mask = self.scan.mask.expand(self.phase.shape).numpy()
        maps, centre = self.scan.coil_maps.numpy(), calibration_size(mask)
        coarse = np.stack([with_phase(maps, y, centre) for y in data.numpy()])
        some = looked_at(range(len(data)))
        judged = judged_phase(
            replace(self.scan, coil_maps=torch.from_numpy(coarse[some])), data[some]
        )
        rough = judged is None or not judged.smooth
        fine = [with_fine_phase(s, y) for s, y in zip(coarse, data.numpy(), strict=True)]
        scan = replace(self.scan, coil_maps=torch.from_numpy(np.stack(fine)), complex_image=rough)
        return UnknownPhase(scan) if rough else scan


def simulated_phase(kind: Phase, height: int, width: int, seed: int = 0) -> Tensor:
    """Draw a phase (H, W) in radians, smooth or rough.

    A smooth phase is a random polynomial of second order on [−1, 1]² with coefficients of
    variance 4. A rough phase adds noise up to 3/4 of the resolution that falls like 1/k. It also
    jumps by ±1.5 in two discs towards the front of the head, as at the sinuses.
    """
    generator = torch.Generator().manual_seed(seed)
    y, x = torch.meshgrid(
        torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij"
    )
    terms = torch.stack([x, y, x * y, x**2, y**2])
    phase = torch.einsum("k,khw->hw", 2 * torch.randn(5, generator=generator), terms)
    if kind == "smooth":
        return phase
    spectrum = torch.fft.fftshift(torch.fft.fft2(torch.randn(height, width, generator=generator)))
    inside = (x.abs() <= BAND) & (y.abs() <= BAND)
    spectrum = spectrum * inside / (1 + (x**2 + y**2) / CORNER**2).sqrt()
    noise = torch.fft.ifft2(torch.fft.ifftshift(spectrum)).real
    phase = phase + ROUGHNESS * noise / noise.std()
    for side in (-1, 1):
        phase = phase + side * JUMP * ((y + 0.5).square() + (x - 0.2 * side).square() < 0.15**2)
    return phase
