"""The diffusion prior, its training, the plugin registry, and reconstruct()."""

from any2all_core.check import check_sampler
from any2all_core.conditioning import Conditioning
from any2all_core.gaussian import GaussianMixturePrior, GaussianPrior, Posterior
from any2all_core.noise import Noise
from any2all_core.prior import BundledPrior, DiffusionPrior, Prior, PriorSettings
from any2all_core.reconstruct import load_prior, make_sampler, reconstruct, simulate
from any2all_core.sampler import Sampler
from any2all_core.schedule import Schedule

__version__ = "0.1.0"

__all__ = [
    "BundledPrior",
    "Conditioning",
    "DiffusionPrior",
    "GaussianMixturePrior",
    "GaussianPrior",
    "Noise",
    "Posterior",
    "Prior",
    "PriorSettings",
    "Sampler",
    "Schedule",
    "check_sampler",
    "load_prior",
    "make_sampler",
    "reconstruct",
    "simulate",
]
