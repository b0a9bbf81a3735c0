"""FLAIR from ever fewer lines of its k-space, with a clean T1 beside it."""

from __future__ import annotations

from pathlib import Path

from any2all_core import reconstruct, simulate
from any2all_data import KSpace
from any2all_operators import BlockDiagonal, Identity
from pictures import ERROR, error, person, quality, save_grid

ACCELERATIONS = (2, 4, 8, 16)


def draw(path: Path) -> None:
    """A column for each acceleration: zero-filled, reconstructed, its error."""
    prior, truth = person()
    place = prior.modalities.index("FLAIR")
    flair = truth[:, place]
    zero_filled, found, errors = [], [], []
    for acceleration in ACCELERATIONS:
        scan = KSpace(acceleration=acceleration).build(*flair.shape[1:])
        operator = BlockDiagonal({"T1": Identity(), "FLAIR": scan})
        data = simulate(operator, truth[:, [prior.modalities.index("T1"), place]])
        image = reconstruct(prior, operator, data)[0, :, place]
        folded = scan.adjoint(data["FLAIR"])
        zero_filled.append((quality(folded, flair), folded[0]))
        found.append((quality(image, flair), image[0]))
        errors.append(("", error(image, flair)[0]))
    rows = [("zero-filled", zero_filled), ("Any2all", found), (ERROR, errors)]
    save_grid(path, rows, [f"R = {acceleration}" for acceleration in ACCELERATIONS])


if __name__ == "__main__":
    draw(Path(__file__).with_suffix(".webp"))
