"""Test on held-out samples whether the prior helps on a measured scan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from any2all_core.prior import Prior
from any2all_core.reconstruct import make_sampler, reconstruct
from any2all_mri.held_out import Classical, HeldOut, looked_at
from any2all_operators import BlockDiagonal, FieldOfView, Operator, SenseFourier, UnknownPhase
from any2all_operators.field_of_view import fit
from torch import Tensor

from any2all_app.report_format import HeldOutReport

STEPS = 12
"""Network calls of the first pass."""


@dataclass(frozen=True)
class Trust:
    """Errors ‖y − A x‖/‖y‖ on samples that were held out of a short first pass.

    ``prior`` is the error of MDS. ``classical`` are CG-SENSE and L1-wavelet, each at its best
    setting. ``noise`` is the error that noise alone causes. ``share`` is the prior's share of the
    image, 1 if the prior predicts better than both classical methods. The better classical method
    has the rest.
    """

    prior: float
    classical: tuple[Classical, ...]
    noise: float
    share: float

    @property
    def best(self) -> Classical:
        """The classical method that predicts best."""
        return min(self.classical, key=lambda way: way.error)

    @property
    def sentence(self) -> str:
        """Return the finding as a sentence for the terminal."""
        others = ", ".join(f"{way.method} {_percent(way.error)}" for way in self.classical)
        text = (
            f"of the held-out samples the prior leaves {_percent(self.prior)} unexplained, "
            f"{others}, noise alone {_percent(self.noise)}"
        )
        if self.share == 1:
            return f"{text}. The prior helps on this scan"
        return (
            f"{text}. The prior does not help on this scan: the image is {_percent(self.share)} "
            f"the prior's and {_percent(1 - self.share)} that of {self.best.method}"
        )

    def report(self) -> HeldOutReport:
        """Return the finding for report.json."""
        errors = {"prior": self.prior, **{w.method: w.error for w in self.classical}}
        rounded = {name: round(error, 4) for name, error in errors.items()}
        return {
            "held_out_errors": rounded | {"noise": round(self.noise, 4)},
            "share_of_the_prior": round(self.share, 3),
            "rest": None if self.share == 1 else f"{self.best.method} at {self.best.setting:g}",
        }


def trust(
    prior: Prior,
    operator: BlockDiagonal,
    data: Mapping[str, Tensor],
    modality: str,
    *,
    seed: int,
) -> Trust | None:
    """Test how far the prior can be trusted with the scan (B, C, H, W) of a modality.

    In four slices, a tenth of the lines or samples outside the centre is held out. All other data
    of the patient are kept. Returns None if the scan is not a :class:`SenseFourier`, or has too few
    samples outside its centre.
    """
    scan = scan_of(operator.operators[modality])
    if scan is None:
        return None
    some = torch.tensor(looked_at(range(len(data[modality]))))
    operator = operator.select(some)
    chosen = {m: y[some] for m, y in data.items()}
    scan = scan_of(operator.operators[modality])
    assert scan is not None
    parts = HeldOut.of(scan, chosen[modality], seed)
    if parts is None:
        return None
    kept = with_scan(operator.operators[modality], parts.kept)
    operators = {m: kept if m == modality else op for m, op in operator.operators.items()}
    chosen[modality] = parts.kept_data
    known = {m: y for m, y in chosen.items() if y.numel()}
    sampler = make_sampler("mds", {"steps": str(STEPS)})
    used = BlockDiagonal({m: operators[m] for m in known})
    place = prior.modalities.index(modality)
    image = reconstruct(prior, used, known, sampler, seed=seed)[0, :, place]
    ours = on_scan(kept, parts.kept_data, image)
    ways = (parts.least_squares(), parts.l1_wavelet())
    best = min(ways, key=lambda way: way.error)
    error = parts.error(ours)
    share = 1.0 if error <= best.error else parts.share(ours, best.image)
    return Trust(error, ways, parts.noise, share)


def blended(found: Trust, operator: Operator, data: Tensor, images: Tensor) -> Tensor:
    """Mix draws (D, B, H, W) of a scan with the best classical image, by the prior's share."""
    scan = scan_of(operator)
    if found.share == 1 or scan is None:
        return images
    other = found.best.again(scan, data)
    size = (images.shape[-2], images.shape[-1])
    window = fit(torch.ones(other.shape[-2:], dtype=torch.bool), size)
    mixed = []
    for draw in images:
        ours = on_scan(operator, data, draw)
        mean = found.share * ours + (1 - found.share) * other
        value = mean.abs() if isinstance(operator, UnknownPhase) else mean.real
        mixed.append(torch.where(window, fit(value, size), draw))
    return torch.stack(mixed).clamp(0, 1)


def on_scan(operator: Operator, data: Tensor, image: Tensor) -> Tensor:
    """Return images (B, H, W) as complex images with the phase that explains the scan's data."""
    scan = scan_of(operator)
    assert scan is not None
    near = operator.near(data, image)
    if isinstance(near, UnknownPhase) and near.phase is not None:
        image = torch.polar(image, near.phase)
    return fit(image + 0j, (scan.coil_maps.shape[-2], scan.coil_maps.shape[-1]))


def scan_of(operator: Operator) -> SenseFourier | None:
    """Return the scan inside the operators of an unknown phase and a field of view, if any."""
    while isinstance(operator, UnknownPhase | FieldOfView):
        operator = operator.scan
    return operator if isinstance(operator, SenseFourier) else None


def with_scan(operator: Operator, scan: SenseFourier) -> Operator:
    """Replace the scan inside an operator."""
    if isinstance(operator, UnknownPhase | FieldOfView):
        return replace(operator, scan=with_scan(operator.scan, scan))
    assert isinstance(operator, SenseFourier)
    return replace(scan, complex_image=operator.complex_image)


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
