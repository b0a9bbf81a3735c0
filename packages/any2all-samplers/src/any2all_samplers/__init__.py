"""Diffusion samplers: DDPM, MPS, MDS, MCS, MMPS and the posterior mean, one per file."""

from any2all_samplers.ddpm import DDPM
from any2all_samplers.mcs import MCS
from any2all_samplers.mds import MDS
from any2all_samplers.mean import Mean
from any2all_samplers.mmps import MMPS
from any2all_samplers.mps import MPS

__version__ = "0.1.0"

__all__ = ["DDPM", "MCS", "MDS", "MMPS", "MPS", "Mean"]
