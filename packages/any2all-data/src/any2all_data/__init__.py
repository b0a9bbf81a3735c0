"""Read and write patients: DICOM and NIfTI, registration, cohorts, and slices for training.

The names of any2all-mri are exported here too, because plugins import them from here.
"""

from any2all_mri import KSpace, RawKSpace, birdcage_maps, calibrate, read_raw

from any2all_data.patient import (
    Volume,
    modality_path,
    read_patient,
    read_volume,
    to_stack,
    write_volume,
)

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
