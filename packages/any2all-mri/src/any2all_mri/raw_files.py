"""Read raw k-space from NumPy, fastMRI (HDF5) and ISMRMRD files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from any2all_operators import UserError

from any2all_mri.ismrmrd_file import geometry, read_ismrmrd
from any2all_mri.noise_level import coil_levels
from any2all_mri.raw import RawKSpace
from any2all_mri.sampling import check_order, given_mask, sampled

SUFFIXES = (".npy", ".h5", ".mrd")
DEAD = 1e-3
"""A coil is dead if its noise, relative to the median coil's, is below this."""


def read_raw(path: Path) -> RawKSpace:
    """Read raw Cartesian k-space. Slices that are all 0 or hold NaN, and dead coils, are left out.

    Parameters
    ----------
    path
        fastMRI's ``.h5``, ISMRMRD (``.h5``, ``.mrd``), or ``.npy``: complex (C, H, W) or
        (Z, C, H, W). The mask of an ``.npy`` file, (W,), (H, W) or (Z, H, W), is <name>_mask.npy
        beside it. Without that file, a sample counts as measured if any coil is not 0 there.

    Returns
    -------
    RawKSpace
        k-space (Z, C, H, W) with its mask.

    Raises
    ------
    UserError
        If the file is damaged, not Cartesian or three-dimensional, or its axes are in another
        order. The message names the file.
    """
    try:
        raw = _read_npy(path) if path.suffix == ".npy" else _read_hdf5(path)
    except UserError:
        raise
    except ImportError as error:
        raise UserError(f"{path}: {error}; run pip install 'any2all-mri[kspace]'") from None
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{path}: not readable as raw k-space ({reason})") from None
    return without_dead_coils(path, without_bad_slices(path, raw))


def without_bad_slices(path: Path, raw: RawKSpace) -> RawKSpace:
    """Set k-space and mask to 0 in slices that are all 0 or hold NaN or infinity."""
    finite = np.isfinite(raw.kspace).all((1, 2, 3))
    good = finite & raw.kspace.any((1, 2, 3)) & raw.masks.any((1, 2))
    if good.all():
        return raw
    if not finite.any():
        raise UserError(f"{path}: holds NaN or infinity; export it again")
    if not good.any():
        raise UserError(f"{path}: every sample is 0 or masked out; leave the modality out")
    kspace, mask = raw.kspace.copy(), raw.masks.copy()
    kspace[~good], mask[~good] = 0, 0
    left_out = tuple(np.flatnonzero(~good).tolist())
    return replace(raw, kspace=kspace, mask=mask, left_out=left_out)


def without_dead_coils(path: Path, raw: RawKSpace) -> RawKSpace:
    """Drop the coils that have no noise in the noise scan or in the samples themselves."""
    dead = _much_below_median(coil_levels(raw))
    covariance = raw.noise_covariance
    if covariance is not None:
        variances = np.nan_to_num(np.diag(covariance).real, posinf=0)
        if not variances.any():
            raise UserError(
                f"{path}: its noise scan is all 0 or NaN; expected noise. Export it without the "
                "noise scan"
            )
        dead |= _much_below_median(np.sqrt(variances))
    if dead.all():
        raise UserError(f"{path}: no coil has both signal and noise; export it again")
    if not dead.any():
        return raw
    live = np.flatnonzero(~dead)
    if covariance is not None:
        covariance = covariance[np.ix_(live, live)]
    return replace(
        raw,
        kspace=raw.kspace[:, live],
        noise_covariance=covariance,
        dead_coils=tuple(np.flatnonzero(dead).tolist()),
    )


def _much_below_median(levels: Any) -> Any:
    there = levels[levels > 0]
    return levels <= (DEAD * np.median(there) if there.size else 0)


def _read_npy(path: Path) -> RawKSpace:
    kspace = np.load(path, allow_pickle=False)
    beside = path.with_name(f"{path.stem}_mask.npy")
    return _plain(path, kspace, np.load(beside, allow_pickle=False) if beside.exists() else None)


def _plain(path: Path, kspace: Any, mask: Any, **more: Any) -> RawKSpace:
    if kspace.ndim not in (3, 4) or not np.iscomplexobj(kspace) or not kspace.size:
        raise UserError(
            f"{path}: {kspace.dtype} {kspace.shape}; expected complex (slices, coils, H, W) or "
            "(coils, H, W)"
        )
    check_order(path, kspace)
    kspace = kspace.reshape(-1, *kspace.shape[-3:]).astype(np.complex64)
    taken = sampled(kspace)
    if mask is not None:
        taken &= given_mask(path, mask, kspace.shape)
    bad = ~np.isfinite(kspace).all((1, 2, 3))
    taken[bad] = False
    kspace = np.where(taken[:, None] | bad[:, None, None, None], kspace, 0)
    used = taken[taken.any((1, 2))]
    if len(used) == len(taken) and (used == used[:1]).all():
        taken = taken[0]
    return RawKSpace(kspace, taken.astype(np.float32), **more)


def _read_hdf5(path: Path) -> RawKSpace:
    import h5py

    with h5py.File(path) as file:
        if "kspace" in file:
            kspace = np.asarray(file["kspace"])
            if kspace.ndim == 3:  # fastMRI's single coil: (slices, H, W)
                check_order(path, kspace)
                kspace = kspace[:, None]
            mask = np.asarray(file["mask"]) if "mask" in file else None
            header = file["ismrmrd_header"][()] if "ismrmrd_header" in file else None
            return _plain(path, kspace, mask, **(geometry(header) if header else {}))
        groups = [name for name in file if "data" in file[name] and "xml" in file[name]]
    if not groups:
        raise UserError(f"{path}: neither fastMRI ('kspace') nor ISMRMRD ('dataset/data')")
    return read_ismrmrd(path, groups[0])
