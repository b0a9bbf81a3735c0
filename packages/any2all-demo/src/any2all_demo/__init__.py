"""Two priors, each with an example patient: ``lgg`` of real MRI, ``virtual`` of five modalities."""

from pathlib import Path

from any2all_core import BundledPrior

__version__ = "0.1.0"

_HERE = Path(__file__).parent

lgg = BundledPrior(
    folder=_HERE / "lgg",
    example=_HERE / "synthetic_patient",
    example_note="a synthetic patient, drawn from the prior; no such person exists",
)

virtual = BundledPrior(
    folder=_HERE / "virtual",
    example=_HERE / "virtual_person",
    example_note="a virtual person, simulated; no such person exists",
)

__all__ = ["lgg", "virtual"]
