"""A prior of ellipses in two contrasts, A and B; nothing in it is from a person."""

from pathlib import Path

from any2all_core import BundledPrior

HERE = Path(__file__).parent

phantoms = BundledPrior(
    folder=HERE / "weights", example=HERE / "example", example_note="ellipses, drawn by a computer"
)
