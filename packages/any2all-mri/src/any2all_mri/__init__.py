"""MR physics: coil maps, sampling masks, raw k-space and its calibration."""

from any2all_mri.birdcage import birdcage_maps
from any2all_mri.calibration import calibrate
from any2all_mri.intensity import mr_scale
from any2all_mri.kspace import KSpace
from any2all_mri.poisson import poisson_mask
from any2all_mri.raw import RawKSpace
from any2all_mri.raw_files import read_raw

__version__ = "0.1.0"

__all__ = [
    "KSpace",
    "RawKSpace",
    "birdcage_maps",
    "calibrate",
    "mr_scale",
    "poisson_mask",
    "read_raw",
]
