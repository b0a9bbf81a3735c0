"""Diffusion samplers: ancestral (DDPM), MPS, MDS and MMPS, one algorithm a file."""

from any2all_samplers.ddpm import DDPM
from any2all_samplers.mds import MDS
from any2all_samplers.mmps import MMPS
from any2all_samplers.mps import MPS

__version__ = "0.1.0"

__all__ = ["DDPM", "MDS", "MMPS", "MPS"]
