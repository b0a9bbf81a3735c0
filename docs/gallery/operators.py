"""FLAIR seen through operators of the example plugins, and restored with a clean T1 beside it.

Both plugins have to be installed, or their folders named in PYTHONPATH, as ``hatch run gallery``
does.
"""

from __future__ import annotations

from pathlib import Path

import torch
from any2all_core import reconstruct, simulate
from any2all_deblur import Deblur
from any2all_operators import BlockDiagonal, Identity
from any2all_superres import Superres
from pictures import person, quality, save_grid
from torch import Tensor


def seen(data: Tensor, size: tuple[int, int]) -> Tensor:
    """Data (B, h, w) on the pixels of the image, for the eye."""
    return torch.nn.functional.interpolate(data[:, None], size)[:, 0]


def draw(path: Path) -> None:
    """A row for each operator: the measurement, the result, the truth."""
    prior, truth = person()
    place = prior.modalities.index("FLAIR")
    flair = truth[:, place]
    size = (flair.shape[1], flair.shape[2])
    cases = {
        "blur": Deblur(sigma=2),
        "motion": Deblur(kind="motion", length=9, angle=30),
        "large pixels": Superres(rows=2, columns=2),
    }
    rows = []
    for name, block in cases.items():
        operator = BlockDiagonal({"T1": Identity(), "FLAIR": block})
        data = simulate(operator, truth[:, [prior.modalities.index("T1"), place]])
        image = reconstruct(prior, operator, data)[0, :, place]
        measured = seen(data["FLAIR"], size)
        cells = [("", measured[0]), (quality(image, flair), image[0]), ("", flair[0])]
        rows.append((name, cells))
    save_grid(path, rows, ["measured", "Any2all", "truth"])


if __name__ == "__main__":
    draw(Path(__file__).with_suffix(".webp"))
