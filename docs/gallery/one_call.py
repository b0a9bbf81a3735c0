"""CT from more and more clean images, each with one call of the network (the sampler ``mean``)."""

from __future__ import annotations

from pathlib import Path

from any2all_core import reconstruct
from any2all_operators import BlockDiagonal, Identity
from any2all_samplers import Mean
from pictures import ERROR, Cell, error, person, quality, save_grid

GIVEN = (("FLAIR",), ("T1",), ("T1", "T2star"), ("T1", "T2star", "FLAIR", "PET"))


def draw(path: Path) -> None:
    """A column for each set of given images, and the truth at the end."""
    prior, truth = person()
    place = prior.modalities.index("CT")
    ct = truth[:, place]
    images: list[Cell] = []
    errors: list[Cell] = []
    for given in GIVEN:
        data = {m: truth[:, prior.modalities.index(m)] for m in given}
        operator = BlockDiagonal(dict.fromkeys(given, Identity()))
        image = reconstruct(prior, operator, data, Mean())[0, :, place]
        images.append((quality(image, ct), image[0]))
        errors.append(("", error(image, ct)[0]))
    last: Cell = ("", None)
    rows = [("CT", [*images, ("", ct[0])]), (ERROR, [*errors, last])]
    names = ["FLAIR", "T1", "T1, T2*", "all but CT"]
    save_grid(path, rows, [*(f"from {name}" for name in names), "truth"])


if __name__ == "__main__":
    draw(Path(__file__).with_suffix(".webp"))
