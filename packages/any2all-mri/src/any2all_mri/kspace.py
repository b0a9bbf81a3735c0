"""The operator ``kspace``: a measured raw scan, or a simulated one."""

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
    """Cartesian multi-coil k-space, y = M F S x + n, read from a raw file or simulated.

    A simulated scan has birdcage coils. With ``acceleration`` R it samples every R-th line from
    ``offset`` on, or W/R random lines, or HW/R samples of a Poisson disc. It always samples
    ``acs_lines`` in the centre, and nothing beyond the fraction ``partial_fourier`` of the lines.

    A measured scan is brought to the prior's orientation by a rotation of ``turn`` degrees
    counter-clockwise and then a left-right ``mirror``. ``zoom`` is its longer field of view over
    the prior's.

    ``noise_std`` is the standard deviation of one real component of a sample, on the [0, 1] image
    scale. auto takes 0.01 for a simulated scan and estimates it for a measured one. ``phase`` is
    the phase of the image: none, smooth or rough. auto takes none for a simulated scan, and
    decides by held-out samples for a measured one. A simulated phase is estimated from the data.
    """

    acceleration: Annotated[
        int, "Simulated: acceleration R, one line in R is sampled; at least 1"
    ] = 4
    coils: Annotated[int, "Simulated: number of coils around the head; at least 1"] = 8
    acs_lines: Annotated[int, "Simulated: number of fully sampled lines in the centre"] = 8
    noise_std: Annotated[
        float | Literal["auto"],
        "Noise standard deviation of one real component, in [0, 1] units; at least 0",
    ] = "auto"
    mask: Annotated[
        Literal["equispaced", "random", "poisson"], "Simulated: pattern of the samples"
    ] = "equispaced"
    offset: Annotated[int, "Simulated: shift of the equispaced lines, in lines"] = 0
    partial_fourier: Annotated[
        float, "Simulated: partial Fourier fraction of the lines; above 0.5 to 1"
    ] = 1.0
    phase: Annotated[
        Phase, "Phase of the image; auto simulates none, and tests a measured scan"
    ] = "auto"
    turn: Annotated[
        Literal[0, 90, 180, 270],
        "Measured: rotation to the prior's orientation, in degrees counter-clockwise",
    ] = 0
    mirror: Annotated[bool, "Measured: mirror left and right, after the rotation"] = False
    zoom: Annotated[float, "Measured: longer field of view divided by the prior's; 0.1 to 10"] = 1.0
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
        """Build the simulated scan for images (H, W): H is readout, W is phase encoding."""
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
        """Read a raw file as a measurement of images (H, W); see :func:`calibrate`."""
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
