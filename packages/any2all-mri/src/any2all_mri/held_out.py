"""Compare reconstructions of a scan by samples that are held out of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
from any2all_operators import SenseFourier
from torch import Tensor

from any2all_mri.calibration_centre import calibration_size

SHARE = 0.1
"""Fraction of the lines, or samples, outside the centre that is held out."""
CENTRE = 1 / 3
"""Largest fraction of the height and width that counts as the centre."""
TRIALS = 4
"""Number of evenly spaced test slices. If there are fewer, some are reused with other lines."""
WEIGHTS = (10.0, 30.0, 100.0, 300.0, 1000.0)
"""Weights of the data that least squares tries; the best one is used."""
LAMBDAS = (0.0001, 0.0003, 0.001, 0.002, 0.004, 0.01)
"""Values of λ that L1-wavelet tries; the best one is used."""
ITERATIONS = 100
"""Iterations of L1-wavelet."""
MISFIT = 1.2
"""Misfit of a real image over that of a complex one above which the phase is not smooth."""
ENOUGH = 2.5
"""Real data values per pixel that the misfit needs; a complex image has two unknowns per pixel."""


@dataclass(frozen=True)
class HeldOut:
    """A scan in two parts: ``kept`` makes images, and ``held`` judges them.

    Both parts are complex and of the same slices. ``data`` of each is (B, C, H, W), 0 where not
    sampled.
    """

    kept: SenseFourier
    held: SenseFourier
    kept_data: Tensor
    held_data: Tensor

    @staticmethod
    def of(scan: SenseFourier, data: Tensor, seed: int = 0) -> HeldOut | None:
        """Split a scan, or return None if it has too few samples outside the centre."""
        masks = scan.mask.expand(len(data), *data.shape[-2:])
        held = torch.stack([_chosen(mask, seed + b) for b, mask in enumerate(masks)])
        if not held.flatten(1).any(1).all():
            return None
        kept_part, held_part = (
            replace(scan, mask=m, complex_image=True) for m in (masks * (1 - held), held)
        )
        return HeldOut(
            kept_part, held_part, data * kept_part.mask[:, None], data * held_part.mask[:, None]
        )

    def with_maps(self, coil_maps: Tensor) -> HeldOut:
        """Return the same parts with other coil maps (B, C, H, W)."""
        kept, held = (replace(part, coil_maps=coil_maps) for part in (self.kept, self.held))
        return replace(self, kept=kept, held=held)

    def error(self, image: Tensor) -> float:
        """Return ‖y − A x‖/‖y‖ of the held-out samples, for real or complex images (B, H, W).

        It is the geometric mean over the slices, so that a slice whose held-out lines are easy to
        predict does not count more than the others.
        """
        gap = self.held.forward(image + 0j) - self.held_data
        norms = [torch.view_as_real(k).flatten(1).norm(dim=1) for k in (gap, self.held_data)]
        return float((norms[0] / norms[1].clamp(min=1e-20)).clamp(min=1e-20).log().mean().exp())

    @property
    def noise(self) -> float:
        """Return the error that the true images would have: the noise of the held-out samples."""
        size = self.held.data_size(self.held_data)
        norms = torch.view_as_real(self.held_data).flatten(1).norm(dim=1)
        return float(size**0.5 * self.held.noise_std / norms.log().mean().exp())

    def least_squares(self, complex_image: bool = True) -> Classical:
        """Return the least-squares image with the best weight; complex, it is CG-SENSE's."""
        scan = replace(self.kept, complex_image=complex_image)
        return self._best("CG-SENSE", WEIGHTS, lambda w: least_squares(scan, self.kept_data, w))

    def l1_wavelet(self) -> Classical:
        """Return SigPy's L1-wavelet image for the best λ."""
        return self._best("L1-wavelet", LAMBDAS, lambda w: l1_wavelet(self.kept, self.kept_data, w))

    def share(self, image: Tensor, other: Tensor) -> float:
        """Return the a in [0, 1] for which a · image + (1 − a) · other has the least error."""
        base = self.held.forward(other + 0j)
        apart = self.held.forward(image + 0j) - base
        along = (apart.conj() * (self.held_data - base)).real.sum()
        return float((along / apart.abs().square().sum().clamp(min=1e-20)).clamp(0, 1))

    def _best(
        self, method: str, settings: Sequence[float], solve: Callable[[float], Tensor]
    ) -> Classical:
        images = {setting: solve(setting) for setting in settings}
        found = {setting: self.error(image) for setting, image in images.items()}
        best = min(found, key=found.__getitem__)
        return Classical(method, best, found[best], images[best])


@dataclass(frozen=True)
class Classical:
    """A method without a prior: its best setting, and the error and image for that setting."""

    method: str
    setting: float
    error: float
    image: Tensor

    def again(self, scan: SenseFourier, data: Tensor) -> Tensor:
        """Apply the method with this setting to other data; returns complex images (B, H, W)."""
        solve = least_squares if self.method == "CG-SENSE" else l1_wavelet
        return solve(replace(scan, complex_image=True), data, self.setting)


def least_squares(scan: SenseFourier, data: Tensor, weight: float) -> Tensor:
    """Return argmin weight ‖A x − y‖² + ‖x‖², (B, H, W), complex if the scan's images are."""
    kind = torch.complex64 if scan.complex_image else torch.float32
    return scan.prox(data, torch.zeros(len(data), *data.shape[2:], dtype=kind), weight)


def l1_wavelet(scan: SenseFourier, data: Tensor, weight: float) -> Tensor:
    """Return SigPy's argmin 1/2 ‖A x − y‖² + weight ‖W x‖₁, W wavelets; complex (B, H, W)."""
    from sigpy.mri.app import L1WaveletRecon

    maps = scan.coil_maps.expand(len(data), *scan.coil_maps.shape[-3:])
    images = []
    for y, s in zip(data.numpy(), maps.numpy(), strict=True):
        with repeatable():
            app = L1WaveletRecon(y, s, weight, max_iter=ITERATIONS, show_pbar=False)
            images.append(app.run())
    return torch.from_numpy(np.stack(images))


@contextmanager
def repeatable() -> Iterator[None]:
    """Seed NumPy with 0, because SigPy's power iteration starts from its random numbers."""
    state = np.random.get_state()  # noqa: NPY002
    np.random.seed(0)  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(state)  # noqa: NPY002


def looked_at(usable: Sequence[int]) -> list[int]:
    """Choose TRIALS evenly spaced slices; if there are fewer, some are repeated."""
    places = np.linspace(0, len(usable) - 1, min(TRIALS, len(usable)) + 2)[1:-1]
    chosen = sorted({usable[round(place)] for place in places})
    return [chosen[k % len(chosen)] for k in range(TRIALS)]


@dataclass(frozen=True)
class PhaseTrial:
    """Comparison of the real and the complex least-squares image of a scan's kept samples.

    ``real`` and ``complex`` are their errors on the held-out samples, see :meth:`HeldOut.error`.
    ``misfit`` is the real image's residual on the kept samples over the complex image's, per
    degree of freedom. It is 1 if the phase is smooth, or if there are too few data to tell.
    """

    real: float
    complex: float
    misfit: float

    @property
    def smooth(self) -> bool:
        """Whether a real image suffices: it predicts better and has no larger misfit."""
        return self.real < self.complex and self.misfit < MISFIT


def phase_trial(
    scan: SenseFourier, data: Tensor, with_phase: Callable[[Tensor, SenseFourier], Tensor]
) -> PhaseTrial | None:
    """Test whether the phase of a scan is smooth; None if no samples can be held out.

    The scan's coil maps (B, C, H, W) have no phase. ``with_phase`` maps kept data and scan to coil
    maps with the smooth phase found in these data. If the phase is smooth, a real image predicts
    better, because it has half as many unknowns. A weak phase that is not smooth may leave the
    real image better at prediction although it is far above the noise. The misfit detects it.
    """
    parts = HeldOut.of(scan, data)
    if parts is None:
        return None
    parts = parts.with_maps(with_phase(parts.kept_data, parts.kept))
    size = parts.kept.data_size(parts.kept_data)
    pixels = data.shape[-2] * data.shape[-1]
    errors, left = {}, {}
    for kind, unknowns in ((torch.float32, pixels), (torch.complex64, 2 * pixels)):
        own = replace(parts.kept, complex_image=kind.is_complex)
        prox, nothing = own.prox_of(parts.kept_data), torch.zeros(1, dtype=kind)
        nothing = nothing.expand(len(data), *data.shape[-2:])
        images = [prox(nothing, weight) for weight in WEIGHTS]
        errors[kind] = min(parts.error(image) for image in images)
        gap = parts.kept.forward(images[-1] + 0j) - parts.kept_data
        power = torch.view_as_real(gap).flatten(1).square().sum(1)
        left[kind] = power / max(size - unknowns, 1)
    real, complex_ = left[torch.float32], left[torch.complex64]
    misfit = float((real / complex_).log().mean().div(2).exp())
    enough = size > ENOUGH * pixels
    return PhaseTrial(errors[torch.float32], errors[torch.complex64], misfit if enough else 1.0)


def _chosen(mask: Tensor, seed: int) -> Tensor:
    """Choose the held-out samples (H, W) of a mask: whole lines if the mask has whole lines."""
    height, width = mask.shape
    sizes = calibration_size(mask.numpy())
    rows, columns = (
        _outside(n, min(size, max(round(CENTRE * n), 4)))
        for n, size in zip((height, width), sizes, strict=True)
    )
    generator = torch.Generator().manual_seed(seed)
    held = torch.zeros_like(mask)
    if bool((mask == mask[:1]).all()):
        lines = torch.nonzero((mask[0] > 0) & columns)[:, 0]
        held[:, lines[_some(len(lines), generator)]] = 1
    elif bool((mask == mask[:, :1]).all()):
        lines = torch.nonzero((mask[:, 0] > 0) & rows)[:, 0]
        held[lines[_some(len(lines), generator)]] = 1
    else:
        samples = torch.nonzero((mask > 0) & (rows[:, None] | columns))
        held[tuple(samples[_some(len(samples), generator)].T)] = 1
    return held


def _outside(size: int, centre: int) -> Tensor:
    places = torch.arange(size)
    first = size // 2 - centre // 2
    return (places < first) | (places >= first + centre)


def _some(count: int, generator: torch.Generator) -> Tensor:
    """Draw SHARE of ``count``: at least two, if at least two others then remain."""
    wanted = max(round(SHARE * count), 2)
    return torch.randperm(count, generator=generator)[: wanted if count >= 2 * wanted else 0]
