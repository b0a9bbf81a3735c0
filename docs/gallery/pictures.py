"""What the scripts of the gallery share: the virtual person, and a grid of images."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from any2all_core import DiffusionPrior, load_prior
from any2all_data import read_patient, to_stack
from any2all_data.metrics import psnr
from any2all_demo import virtual
from PIL import Image
from torch import Tensor

Cell = tuple[str, Tensor | None]
"""Text above an image, and the image (H, W) in [0, 1] or None."""
SLICE = 5
"""The slice of the person that is shown; it shows the ventricles."""
ERROR = "|error| x 5"


def person() -> tuple[DiffusionPrior, Tensor]:
    """The prior ``virtual``, and a slice (1, 5, H, W) in [0, 1] of a person it has never seen."""
    assert virtual.example is not None
    prior = load_prior("virtual")
    stack = to_stack(read_patient(virtual.example, prior.modalities, prior.format))
    return prior, stack[SLICE : SLICE + 1]


def quality(image: Tensor, truth: Tensor) -> str:
    """PSNR of images (1, H, W), in dB."""
    return f"{float(psnr(image, truth)):.1f} dB"


def error(image: Tensor, truth: Tensor) -> Tensor:
    """|image − truth|, five times as bright."""
    return 5 * (image - truth).abs()


def save_grid(
    path: Path,
    rows: Sequence[tuple[str, Sequence[Cell]]],
    columns: Sequence[str],
    coloured: Sequence[str] = (ERROR,),
) -> None:
    """Write a picture of images.

    Parameters
    ----------
    path
        The file, .webp.
    rows
        (name of the row, its cells).
    columns
        Names of the columns.
    coloured
        Rows and columns whose images are shown in colour.
    """
    size = (1.7 * len(columns) + 0.5, 2.15 * len(rows) + 0.3)
    figure, axes = plt.subplots(
        len(rows), len(columns), figsize=size, layout="constrained", squeeze=False
    )
    for row, ((name, cells), line) in enumerate(zip(rows, axes, strict=True)):
        line[0].set_ylabel(name, fontsize=11)
        for column, (text, image), axis in zip(columns, cells, line, strict=True):
            if row == 0:
                axis.set_title(f"{column}\n{text}", fontsize=11)
            else:
                axis.set_title(text, fontsize=10)
            axis.set(xticks=[], yticks=[])
            if image is None:
                axis.set_axis_off()
                continue
            colours = "inferno" if {name, column} & set(coloured) else "gray"
            axis.imshow(image, colours, vmin=0, vmax=1)
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=120)
    plt.close(figure)
    Image.open(drawn).convert("RGB").save(path, quality=82, method=6)


torch.set_grad_enabled(False)
