"""Diffusion samplers: ancestral sampling (DDPM), MPS and MDS, one algorithm a file."""

from any2all_samplers.ddpm import DDPM
from any2all_samplers.mds import MDS
from any2all_samplers.mps import MPS

__version__ = "0.1.0"

__all__ = ["DDPM", "MDS", "MPS"]
