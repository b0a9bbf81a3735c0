"""The diffusion prior and its training, the plugin registry, and :func:`reconstruct`."""

from any2all_core.answers import Answers
from any2all_core.check import check_sampler
from any2all_core.check_method import check_method
from any2all_core.conditioning import Conditioning
from any2all_core.fitted import FittedMethod
from any2all_core.gaussian import GaussianMixturePrior, GaussianPrior, Posterior
from any2all_core.given import Guides, Scan
from any2all_core.method import Method, MethodSettings, Question
from any2all_core.modality_kind import ModalityKind
from any2all_core.named_priors import load_prior
from any2all_core.noise import Noise
from any2all_core.prior import BundledPrior, DiffusionPrior, Prior
from any2all_core.prior_settings import PriorSettings
from any2all_core.reconstruct import make_sampler, reconstruct, simulate, solve
from any2all_core.sampler import Sampler, Solver
from any2all_core.schedule import Schedule
from any2all_core.stack_format import Grid, ModalityFormat, Range, StackFormat

__version__ = "0.1.0"

__all__ = [
    "Answers",
    "BundledPrior",
    "Conditioning",
    "DiffusionPrior",
    "FittedMethod",
    "GaussianMixturePrior",
    "GaussianPrior",
    "Grid",
    "Guides",
    "Method",
    "MethodSettings",
    "ModalityFormat",
    "ModalityKind",
    "Noise",
    "Posterior",
    "Prior",
    "PriorSettings",
    "Question",
    "Range",
    "Sampler",
    "Scan",
    "Schedule",
    "Solver",
    "StackFormat",
    "check_method",
    "check_sampler",
    "load_prior",
    "make_sampler",
    "reconstruct",
    "simulate",
    "solve",
]
