"""The operator ``kspace``: a scan of raw data, measured or simulated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, ClassVar, Literal, get_args

from any2all_operators import (
    Measured,
    SenseFourier,
    UserError,
    equispaced_mask,
    partial_fourier,
    random_mask,
)
from any2all_operators.operator import check_noise_std

from any2all_mri.birdcage import birdcage_maps
from any2all_mri.calibration import calibrate
from any2all_mri.phase import Phase, SimulatedPhase, simulated_phase
from any2all_mri.poisson import poisson_mask
from any2all_mri.raw import turned, without_oversampling
from any2all_mri.raw_files import SUFFIXES, read_raw

SIMULATED_NOISE_STD = 0.01


@dataclass(frozen=True)
class KSpace:
    """Cartesian multi-coil k-space, y = M F S x + n: a raw file, or simulated from an image.

    Simulated, with birdcage coils: ``acceleration`` R takes every R-th line moved by ``offset``, or
    W/R random ones, or HW/R samples of a Poisson disc, ``acs_lines`` in the centre and none beyond
    the ``partial_fourier`` fraction of the lines. Measured: ``turn`` degrees counter-clockwise and
    then ``mirror`` left-right bring the scan to the prior's orientation, and ``zoom`` is its longer
    field of view over that of the prior. ``noise_std`` of one real component of a sample, on the
    [0, 1] image scale; auto: 0.01 simulated, estimated where measured. ``phase`` of the image:
    none, smooth or rough; auto: none simulated, smooth or rough where measured, as samples that are
    held out say. A simulated phase is estimated from the data, too.
    """

    acceleration: Annotated[int, "Simulated: one of so many lines is sampled; from 1 on"] = 4
    coils: Annotated[int, "Simulated: coils around the head; from 1 on"] = 8
    acs_lines: Annotated[int, "Simulated: lines in the centre that are all sampled"] = 8
    noise_std: Annotated[
        float | Literal["auto"],
        "Standard deviation of the noise of one real component, in [0, 1] units; at least 0",
    ] = "auto"
    mask: Annotated[
        Literal["equispaced", "random", "poisson"], "Simulated: which samples are taken"
    ] = "equispaced"
    offset: Annotated[int, "Simulated: lines by which the equispaced ones are moved"] = 0
    partial_fourier: Annotated[
        float, "Simulated: share of the lines beyond which none is sampled; above 0.5 to 1"
    ] = 1.0
    phase: Annotated[Phase, "Phase of the image; auto: none simulated, or as found"] = "auto"
    turn: Annotated[
        Literal[0, 90, 180, 270], "Measured: degrees counter-clockwise to the prior's orientation"
    ] = 0
    mirror: Annotated[bool, "Measured: left and right are exchanged"] = False
    zoom: Annotated[
        float, "Measured: the longer field of view over that of the prior; 0.1 to 10"
    ] = 1.0
    suffixes: ClassVar[tuple[str, ...]] = SUFFIXES
    simulation_only: ClassVar[tuple[str, ...]] = (
        *("acceleration", "coils", "acs_lines", "mask", "offset", "partial_fourier"),
    )
    file_only: ClassVar[tuple[str, ...]] = ("turn", "mirror", "zoom")

    def __post_init__(self) -> None:
        if self.noise_std != "auto":
            check_noise_std(self.noise_std)
        if self.phase not in get_args(Phase):
            raise UserError(f"phase {self.phase}: expected {', '.join(get_args(Phase))}")
        if not 0.1 <= self.zoom <= 10:
            raise UserError(f"zoom {self.zoom}: expected 0.1 to 10")

    def build(self, height: int, width: int) -> SenseFourier | SimulatedPhase:
        """The simulated scan for images (H, W): H is readout, W phase encode."""
        self._refuse(self.file_only, "applies to a measured scan, but this one is simulated")
        if self.mask == "equispaced":
            mask = equispaced_mask(width, self.acceleration, self.acs_lines, self.offset)
        elif self.mask == "random":
            mask = random_mask(width, self.acceleration, self.acs_lines)
        else:
            mask = poisson_mask(height, width, self.acceleration, self.acs_lines)
        mask = partial_fourier(mask, self.partial_fourier)
        noise_std = SIMULATED_NOISE_STD if self.noise_std == "auto" else self.noise_std
        maps = birdcage_maps(self.coils, height, width)
        if self.phase in ("auto", "none"):
            return SenseFourier(maps, mask, noise_std)
        scan = SenseFourier(maps, mask, noise_std, complex_image=True)
        return SimulatedPhase(scan, simulated_phase(self.phase, height, width))

    def read(self, path: Path, height: int, width: int) -> Measured:
        """A raw file as a measurement of images (H, W); see :func:`calibrate`."""
        self._refuse(self.simulation_only, f"applies to a simulation, but {path} was measured")
        if self.phase == "none":
            raise UserError(
                f"phase=none: {path} is a measured scan, which has a phase; expected auto, smooth "
                "or rough"
            )
        raw = turned(without_oversampling(read_raw(path)), self.turn, self.mirror)
        known = None if self.noise_std == "auto" else self.noise_std
        return calibrate(
            raw, (height, width), zoom=self.zoom, noise_std=known, path=path, phase=self.phase
        )

    def _refuse(self, options: Sequence[str], why: str) -> None:
        """Raise UserError for the first of these options that is not at its default."""
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in options and value != field.default:
                raise UserError(f"{field.name}={value} {why}. Leave it out")
