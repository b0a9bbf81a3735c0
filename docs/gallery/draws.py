"""What T1 leaves open of FLAIR and CT: draws, their mean, their spread and the error."""

from __future__ import annotations

from pathlib import Path

from any2all_core import reconstruct
from any2all_operators import BlockDiagonal, Identity
from any2all_samplers import MCS
from pictures import ERROR, error, person, quality, save_grid

SPREAD = "spread x 5"


def draw(path: Path) -> None:
    """A row for each image: two of six draws, the mean of all, the truth, spread and error."""
    prior, truth = person()
    places = {m: prior.modalities.index(m) for m in ("FLAIR", "CT")}
    operator = BlockDiagonal({"T1": Identity()})
    t1 = truth[:, prior.modalities.index("T1")]
    draws = reconstruct(prior, operator, {"T1": t1}, MCS(), draws=6)
    rows = []
    for modality, k in places.items():
        images, goal = draws[:, :, k], truth[:, k]
        mean, spread = images.mean(0), 5 * images.std(0)
        cells = [(quality(image, goal), image[0]) for image in images[:2]]
        cells += [(quality(mean, goal), mean[0]), ("", goal[0])]
        cells += [("", spread[0]), ("", error(mean, goal)[0])]
        rows.append((modality, cells))
    columns = ["a draw", "another", "mean of 6", "truth", SPREAD, ERROR]
    save_grid(path, rows, columns, coloured=(SPREAD, ERROR))


if __name__ == "__main__":
    draw(Path(__file__).with_suffix(".webp"))
