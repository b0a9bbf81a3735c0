"""Raw k-space as files: a phantom of known phase, coils and noise."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import ismrmrd
import numpy as np
import torch
from any2all_core.testing import phantom
from any2all_mri import birdcage_maps
from any2all_operators import SenseFourier

HEIGHT, WIDTH, COILS, SLICES = 48, 40, 4, 2


NOISE = 0.004


def images(height: int = HEIGHT, width: int = WIDTH) -> torch.Tensor:
    """(Z, H, W) in [0, 1]."""
    volume = phantom(max(height, width), SLICES)[:height, :width] / 195
    return torch.from_numpy(volume).permute(2, 0, 1)


def smooth_phase(height: int = HEIGHT, width: int = WIDTH) -> torch.Tensor:
    y, x = torch.meshgrid(
        torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij"
    )
    return 2 * x - 1.5 * y**2 + x * y


def scan(mask: torch.Tensor | None = None, scale: float = 1.0, noise: float = NOISE) -> np.ndarray:
    """k-space (Z, C, H, W) of complex images, with noise."""
    maps = birdcage_maps(COILS, HEIGHT, WIDTH) * torch.exp(1j * smooth_phase())
    full = SenseFourier(maps, torch.ones(HEIGHT, WIDTH) if mask is None else mask, noise)
    y = full.measure(images(), [torch.Generator().manual_seed(k) for k in range(SLICES)])
    return (scale * y).numpy()


def lines(acs: int = 16) -> torch.Tensor:
    mask = (torch.arange(WIDTH) % 3 == 0).float()
    mask[WIDTH // 2 - acs // 2 : WIDTH // 2 + acs // 2] = 1
    return mask


def write_ismrmrd(
    path: Path,
    kspace: np.ndarray,
    taken: np.ndarray,
    noise_scale: float | np.ndarray = 0,
    partitions: int = 1,
    change: Callable[[ismrmrd.Acquisition], object] = lambda acquisition: None,
) -> None:
    """As a scanner's converter does: a noise scan and one acquisition a line, then changed.

    taken: (W,), or (Z, W); noise_scale: of all coils, or (C, 1).
    """
    _, coils, rows, columns = kspace.shape
    header = f"""<?xml version="1.0"?>
<ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD">
<experimentalConditions><H1resonanceFrequency_Hz>123000000</H1resonanceFrequency_Hz>
</experimentalConditions>
<encoding><encodedSpace><matrixSize><x>{rows}</x><y>{columns}</y><z>{partitions}</z></matrixSize>
<fieldOfView_mm><x>{rows * 5}</x><y>{columns * 5}</y><z>5</z></fieldOfView_mm></encodedSpace>
<reconSpace><matrixSize><x>{rows // 2}</x><y>{columns}</y><z>1</z></matrixSize>
<fieldOfView_mm><x>{rows * 5 / 2}</x><y>{columns * 5}</y><z>5</z></fieldOfView_mm></reconSpace>
<encodingLimits><kspace_encoding_step_1><minimum>0</minimum><maximum>{columns - 1}</maximum>
<center>{columns // 2}</center></kspace_encoding_step_1></encodingLimits>
<trajectory>cartesian</trajectory></encoding></ismrmrdHeader>"""
    rng = np.random.default_rng(5)
    with ismrmrd.Dataset(str(path), "dataset") as dataset:
        dataset.write_xml_header(header.encode())
        if np.any(noise_scale):
            acquisition = ismrmrd.Acquisition()
            acquisition.resize(4000, coils)
            acquisition.set_flag(ismrmrd.ACQ_IS_NOISE_MEASUREMENT)
            normal = rng.standard_normal((2, coils, 4000)) * noise_scale
            acquisition.data[:] = normal[0] + 1j * normal[1]
            dataset.append_acquisition(acquisition)
        for z, slice_ in enumerate(kspace):
            for column in np.flatnonzero(np.broadcast_to(taken, (len(kspace), columns))[z]):
                acquisition = ismrmrd.Acquisition()
                acquisition.resize(rows, coils)
                acquisition.center_sample = rows // 2
                acquisition.idx.kspace_encode_step_1 = column
                acquisition.idx.slice = z
                acquisition.data[:] = slice_[:, :, column]
                change(acquisition)
                dataset.append_acquisition(acquisition)
