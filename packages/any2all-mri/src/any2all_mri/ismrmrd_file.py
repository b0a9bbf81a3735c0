"""Read ISMRMRD files: acquisitions of one line each are assembled into k-space."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from any2all_operators import UserError

from any2all_mri.raw import RawKSpace
from any2all_mri.sampling import sampled


def geometry(xml: bytes | str) -> dict[str, Any]:
    """Return the readout oversampling and the field of view that a header gives."""
    import ismrmrd

    encoding = ismrmrd.xsd.CreateFromDocument(xml).encoding[0]
    encoded, recon = encoding.encodedSpace, encoding.reconSpace
    fov = encoded.fieldOfView_mm
    return {
        "oversampling": fov.x / recon.fieldOfView_mm.x,
        "field_of_view": (float(fov.x), float(fov.y)),
    }


def read_ismrmrd(path: Path, group: str) -> RawKSpace:
    """Read the Cartesian slices, with averages averaged, and the covariance of the noise scan.

    Raises UserError for other trajectories, several partitions, contrasts or repetitions, and for
    lines outside the matrix.
    """
    import ismrmrd

    with ismrmrd.Dataset(str(path), group, create_if_needed=False) as dataset:
        xml = dataset.read_xml_header()
        acquisitions = [
            dataset.read_acquisition(k) for k in range(dataset.number_of_acquisitions())
        ]
    header = ismrmrd.xsd.CreateFromDocument(xml)
    skipped = (
        ismrmrd.ACQ_IS_NOISE_MEASUREMENT,
        ismrmrd.ACQ_IS_NAVIGATION_DATA,
        ismrmrd.ACQ_IS_PHASECORR_DATA,
        ismrmrd.ACQ_IS_DUMMYSCAN_DATA,
    )
    noise = [a for a in acquisitions if a.isFlagSet(ismrmrd.ACQ_IS_NOISE_MEASUREMENT)]
    lines = [a for a in acquisitions if not any(a.isFlagSet(flag) for flag in skipped)]
    _check_kind(path, header.encoding[0], lines)
    kspace, count = _assembled(path, header.encoding[0], lines)
    covariance = None
    if noise:
        averages = max(float(np.median(count[count > 0])), 1.0)
        covariance = _noise_covariance(header, noise, lines[0]) / averages
    mask = ((count > 0) & sampled(kspace)).astype(np.float32)
    if (mask == mask[:1]).all():
        mask = mask[0]
    return RawKSpace(kspace, mask, covariance, **geometry(xml))


def _check_kind(path: Path, encoding: Any, lines: Sequence[Any]) -> None:
    if encoding.trajectory.value != "cartesian":
        raise UserError(
            f"{path}: trajectory {encoding.trajectory.value}; expected cartesian. A non-Cartesian "
            "scan needs an operator of its own"
        )
    if not lines:
        raise UserError(f"{path}: has no imaging data; export it again")
    partitions = len({a.idx.kspace_encode_step_2 for a in lines})
    if partitions > 1:
        raise UserError(
            f"{path}: three-dimensional encoding ({partitions} partitions); expected slices. "
            "Fourier transform the partitions first, if they are fully sampled"
        )
    for name in ("contrast", "repetition", "phase", "set"):
        several = len({getattr(a.idx, name) for a in lines})
        if several > 1:
            raise UserError(
                f"{path}: {several} of idx.{name}; expected one. Export each one by itself"
            )


def _assembled(
    path: Path, encoding: Any, lines: Sequence[Any]
) -> tuple[npt.NDArray[np.complex64], npt.NDArray[np.float64]]:
    """Return k-space (Z, C, H, W) and the number of times each sample was acquired (Z, H, W)."""
    matrix = encoding.encodedSpace.matrixSize
    slices = sorted({a.idx.slice for a in lines})
    shape = (len(slices), lines[0].active_channels, matrix.x, matrix.y)
    total, count = np.zeros(shape, np.complex128), np.zeros((len(slices), matrix.x, matrix.y))
    limits = encoding.encodingLimits.kspace_encoding_step_1
    shift = matrix.y // 2 - (limits.center if limits else matrix.y // 2)
    for a in lines:
        z, column = slices.index(a.idx.slice), a.idx.kspace_encode_step_1 + shift
        samples, rows = _readout(a, matrix.x // 2)
        inside = (rows >= 0) & (rows < matrix.x)
        if not 0 <= column < matrix.y or not inside.any():
            raise UserError(
                f"{path}: a line at {column} with its centre at sample {a.center_sample}, outside "
                f"its matrix {matrix.x} x {matrix.y}"
            )
        total[z][:, rows[inside], column] += samples[:, inside]
        count[z, rows[inside], column] += 1
    return (total / np.maximum(count, 1)[:, None]).astype(np.complex64), count


def _readout(acquisition: Any, centre: int) -> tuple[Any, npt.NDArray[np.int64]]:
    """Return the samples to use (C, N) and the k-space row of each.

    ``discard_pre``, ``discard_post`` and ``center_sample`` count the samples as they are stored. A
    reversed readout runs from high rows to low ones about its centre sample.
    """
    import ismrmrd

    stored = np.arange(acquisition.number_of_samples)
    used = stored[acquisition.discard_pre : len(stored) - acquisition.discard_post]
    step = -1 if acquisition.isFlagSet(ismrmrd.ACQ_IS_REVERSE) else 1
    return acquisition.data[:, used], centre + step * (used - acquisition.center_sample)


def _noise_covariance(header: Any, noise: Sequence[Any], line: Any) -> npt.NDArray[np.complex128]:
    """Return the noise covariance (C, C) of the samples of one line."""
    samples = np.concatenate([_readout(a, 0)[0] for a in noise], 1).astype(np.complex128)
    # noise power goes with the bandwidth, which is the inverse of the dwell time
    dwell = (noise[0].sample_time_us or 1) / (line.sample_time_us or 1)
    system = header.acquisitionSystemInformation
    ratio = (system and system.relativeReceiverNoiseBandwidth) or 1.0
    covariance: npt.NDArray[np.complex128] = samples @ samples.conj().T / samples.shape[1]
    return covariance * float(dwell / ratio)
