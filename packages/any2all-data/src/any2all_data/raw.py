"""Raw Cartesian k-space from files: NumPy, fastMRI's HDF5, ISMRMRD."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from any2all_operators import UserError

Complex = npt.NDArray[np.complex64]
SUFFIXES = (".npy", ".h5", ".mrd")


@dataclass(frozen=True)
class RawKSpace:
    """What a scanner measured.

    kspace: (Z, C, H, W), centred, 0 where not sampled; mask: (H, W), 1 where sampled.
    ``noise_covariance``: (C, C) of complex noise samples, from a noise scan. ``oversampling``: the
    readout (H) covers this many times the field of view of the image. ``field_of_view``: (H, W) in
    mm with the oversampling, where the file says so.
    """

    kspace: Complex
    mask: npt.NDArray[np.float32]
    noise_covariance: npt.NDArray[np.complex128] | None = None
    oversampling: float = 1.0
    field_of_view: tuple[float, float] | None = None


def read_raw(path: Path) -> RawKSpace:
    """Read ``.npy``, fastMRI's ``.h5``, or ISMRMRD (``.h5``, ``.mrd``).

    ``.npy``: complex (C, H, W) or (Z, C, H, W); its mask (W,) or (H, W) lies beside it as
    <name>_mask.npy, or is where any sample is not 0. Raises UserError that names the file when it
    is damaged, holds NaN, is not Cartesian, or is three-dimensional.
    """
    try:
        raw = _read_npy(path) if path.suffix == ".npy" else _read_hdf5(path)
    except UserError:
        raise
    except ImportError as error:
        raise UserError(f"{path}: {error}; run pip install 'any2all-data[kspace]'") from None
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{path}: not readable as raw k-space ({reason})") from None
    if not np.isfinite(raw.kspace).all():
        raise UserError(f"{path}: holds NaN or infinity; export it again")
    if not raw.mask.any() or not raw.kspace.any():
        raise UserError(f"{path}: every sample is 0; leave the modality out")
    return raw


def turned(raw: RawKSpace, degrees: int, mirror: bool) -> RawKSpace:
    """The same scan with its image turned counter-clockwise, then mirrored left-right.

    The image is turned about its centre pixel by turning k-space about its centre.
    """
    kspace, mask, fov = raw.kspace, raw.mask, raw.field_of_view
    if raw.oversampling > 1 and degrees in (90, 270):
        raise UserError("turn: a readout that is both oversampled and undersampled can't be turned")
    for _ in range(degrees // 90):
        kspace = _mirrored(kspace.swapaxes(-1, -2), -2)
        mask = _mirrored(mask.T, -2)
        fov = fov and fov[::-1]
    if mirror:
        kspace, mask = _mirrored(kspace, -1), _mirrored(mask, -1)
    kspace, mask = np.ascontiguousarray(kspace), np.ascontiguousarray(mask)
    return replace(raw, kspace=kspace, mask=mask, field_of_view=fov)


def without_oversampling(raw: RawKSpace) -> RawKSpace:
    """Readout cut to the field of view of the image; as it is where readout has gaps."""
    if raw.oversampling <= 1 or not raw.mask[:, raw.mask.any(0)].all():
        return raw
    height = raw.kspace.shape[2]
    keep = round(height / raw.oversampling / 2) * 2
    first = height // 2 - keep // 2
    rows = centred_ifft(raw.kspace, (2,))[:, :, first : first + keep]
    mask = raw.mask[:keep]
    fov = raw.field_of_view and (raw.field_of_view[0] * keep / height, raw.field_of_view[1])
    kspace = (centred_fft(rows, (2,)) * mask).astype(np.complex64)
    return replace(raw, kspace=kspace, mask=mask, oversampling=1.0, field_of_view=fov)


def centred_fft(array: npt.NDArray[Any], axes: tuple[int, ...]) -> npt.NDArray[Any]:
    """Centred, orthonormal Fourier transform."""
    turned_ = np.fft.ifftshift(array, axes=axes)
    return np.fft.fftshift(np.fft.fftn(turned_, axes=axes, norm="ortho"), axes=axes)


def centred_ifft(array: npt.NDArray[Any], axes: tuple[int, ...]) -> npt.NDArray[Any]:
    """Its inverse."""
    turned_ = np.fft.ifftshift(array, axes=axes)
    return np.fft.fftshift(np.fft.ifftn(turned_, axes=axes, norm="ortho"), axes=axes)


def _mirrored(array: npt.NDArray[Any], axis: int) -> npt.NDArray[Any]:
    """Index k to −k about the centre n // 2."""
    n = array.shape[axis]
    return np.take(array, (2 * (n // 2) - np.arange(n)) % n, axis)


def _read_npy(path: Path) -> RawKSpace:
    kspace = np.load(path, allow_pickle=False)
    beside = path.with_name(f"{path.stem}_mask.npy")
    return _plain(path, kspace, np.load(beside, allow_pickle=False) if beside.exists() else None)


def _plain(path: Path, kspace: Any, mask: Any, **more: Any) -> RawKSpace:
    if kspace.ndim == 3:
        kspace = kspace[None]
    if kspace.ndim != 4 or not np.iscomplexobj(kspace):
        raise UserError(
            f"{path}: {kspace.dtype} {kspace.shape}; expected complex (slices, coils, H, W) or "
            "(coils, H, W)"
        )
    height, width = kspace.shape[2:]
    if mask is None:
        mask = (kspace != 0).any((0, 1))
        lines = mask.any(0)
        if lines.any() and not lines.all() and mask[:, lines].mean() > 0.5:
            mask = np.broadcast_to(lines, mask.shape)  # whole lines, with some zeros in them
    if mask.shape not in ((width,), (height, width)):
        raise UserError(
            f"{path}: its mask is {mask.shape}, k-space {kspace.shape}; expected ({width},) or "
            f"({height}, {width})"
        )
    mask = np.broadcast_to(mask != 0, (height, width)).astype(np.float32)
    return RawKSpace((kspace * mask).astype(np.complex64), mask, **more)


def _read_hdf5(path: Path) -> RawKSpace:
    import h5py

    with h5py.File(path) as file:
        if "kspace" in file:
            kspace = np.asarray(file["kspace"])
            if kspace.ndim == 3:  # fastMRI's single coil: (slices, H, W)
                kspace = kspace[:, None]
            mask = np.asarray(file["mask"]) if "mask" in file else None
            header = file["ismrmrd_header"][()] if "ismrmrd_header" in file else None
            return _plain(path, kspace, mask, **(_geometry(header) if header else {}))
        groups = [name for name in file if "data" in file[name] and "xml" in file[name]]
    if not groups:
        raise UserError(f"{path}: neither fastMRI ('kspace') nor ISMRMRD ('dataset/data')")
    return _read_ismrmrd(path, groups[0])


def _geometry(xml: bytes | str) -> dict[str, Any]:
    import ismrmrd

    encoding = ismrmrd.xsd.CreateFromDocument(xml).encoding[0]
    encoded, recon = encoding.encodedSpace, encoding.reconSpace
    fov = encoded.fieldOfView_mm
    return {
        "oversampling": fov.x / recon.fieldOfView_mm.x,
        "field_of_view": (float(fov.x), float(fov.y)),
    }


def _read_ismrmrd(path: Path, group: str) -> RawKSpace:
    import ismrmrd

    with ismrmrd.Dataset(str(path), group, create_if_needed=False) as dataset:
        header = ismrmrd.xsd.CreateFromDocument(dataset.read_xml_header())
        acquisitions = [
            dataset.read_acquisition(k) for k in range(dataset.number_of_acquisitions())
        ]
    encoding = header.encoding[0]
    if encoding.trajectory.value != "cartesian":
        raise UserError(
            f"{path}: trajectory {encoding.trajectory.value}; expected cartesian. A non-Cartesian "
            "scan needs an operator of its own"
        )
    matrix = encoding.encodedSpace.matrixSize
    if matrix.z > 1:
        raise UserError(
            f"{path}: three-dimensional encoding ({matrix.z} partitions); expected slices. Fourier "
            "transform the partitions first, if they are fully sampled"
        )
    noise = [a for a in acquisitions if a.isFlagSet(ismrmrd.ACQ_IS_NOISE_MEASUREMENT)]
    skipped = (
        ismrmrd.ACQ_IS_NOISE_MEASUREMENT,
        ismrmrd.ACQ_IS_NAVIGATION_DATA,
        ismrmrd.ACQ_IS_PHASECORR_DATA,
        ismrmrd.ACQ_IS_DUMMYSCAN_DATA,
    )
    lines = [a for a in acquisitions if not any(a.isFlagSet(flag) for flag in skipped)]
    if not lines:
        raise UserError(f"{path}: no imaging data in it")
    for name in ("contrast", "repetition", "phase", "set"):
        several = len({getattr(a.idx, name) for a in lines})
        if several > 1:
            raise UserError(f"{path}: {several} of idx.{name}; expected one, export one by itself")
    slices = sorted({a.idx.slice for a in lines})
    shape = (len(slices), lines[0].active_channels, matrix.x, matrix.y)
    total, count = np.zeros(shape, np.complex128), np.zeros((len(slices), matrix.y))
    limits = encoding.encodingLimits.kspace_encoding_step_1
    shift = matrix.y // 2 - (limits.center if limits else matrix.y // 2)
    taken = np.zeros(shape[2:], np.float32)
    for a in lines:
        z, column = slices.index(a.idx.slice), a.idx.kspace_encode_step_1 + shift
        first = matrix.x // 2 - a.center_sample
        row = np.arange(first, first + a.number_of_samples)
        inside = (row >= 0) & (row < matrix.x)
        if not 0 <= column < matrix.y or not inside[a.discard_pre :].any():
            raise UserError(
                f"{path}: a line at {column}, sample {first}, outside its matrix "
                f"{matrix.x} x {matrix.y}"
            )
        samples = a.data[:, ::-1] if a.isFlagSet(ismrmrd.ACQ_IS_REVERSE) else a.data
        total[z][:, row[inside], column] += samples[:, inside]
        count[z, column] += 1
        taken[row[inside], column] = 1
    if (count.any(0) != count.all(0)).any():
        raise UserError(f"{path}: slices differ in the lines they have; export them one by one")
    kspace = total / np.maximum(count, 1)[:, None, None, :]
    covariance = None
    if noise:
        samples = np.concatenate([a.data for a in noise], 1).astype(np.complex128)
        # noise power goes with the bandwidth, which is the inverse of the dwell time
        dwell = (noise[0].sample_time_us or 1) / (lines[0].sample_time_us or 1)
        system = header.acquisitionSystemInformation
        ratio = (system and system.relativeReceiverNoiseBandwidth) or 1.0
        averages = max(float(np.median(count[count > 0])), 1.0)
        covariance = samples @ samples.conj().T / samples.shape[1] * dwell / ratio / averages
    return RawKSpace(
        kspace.astype(np.complex64),
        taken,
        covariance,
        **_geometry(_xml(path, group)),
    )


def _xml(path: Path, group: str) -> bytes:
    import h5py

    with h5py.File(path) as file:
        return bytes(file[group]["xml"][0])
