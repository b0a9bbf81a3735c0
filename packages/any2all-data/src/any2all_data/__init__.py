"""Patient folders of NIfTI in and out, normalisation, slices for training, simulated k-space."""

from any2all_data.patient import (
    Volume,
    modality_path,
    read_patient,
    read_volume,
    to_stack,
    write_volume,
)
from any2all_data.simulate import SimulatedKSpace, birdcage_maps

__version__ = "0.1.0"

__all__ = [
    "SimulatedKSpace",
    "Volume",
    "birdcage_maps",
    "modality_path",
    "read_patient",
    "read_volume",
    "to_stack",
    "write_volume",
]
