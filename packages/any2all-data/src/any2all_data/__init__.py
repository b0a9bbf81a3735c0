"""Patient folders in and out: NIfTI, raw k-space; normalisation, slices for training."""

from any2all_data.calibration import calibrate
from any2all_data.kspace import KSpace, birdcage_maps
from any2all_data.patient import (
    Volume,
    modality_path,
    read_patient,
    read_volume,
    to_stack,
    write_volume,
)
from any2all_data.raw import RawKSpace
from any2all_data.raw_files import read_raw

__version__ = "0.1.0"

__all__ = [
    "KSpace",
    "RawKSpace",
    "Volume",
    "birdcage_maps",
    "calibrate",
    "modality_path",
    "read_patient",
    "read_raw",
    "read_volume",
    "to_stack",
    "write_volume",
]
