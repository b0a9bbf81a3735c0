"""Whether draws know what they do not know: their spread beside their error."""

from __future__ import annotations

import math

import torch
from scipy.stats import t as student
from torch import Tensor

from any2all_eval.metrics import inside

LEVEL = 0.9
"""Of the interval whose coverage is told."""
LEAST = 1e-9
"""Half widths of an interval below this count as this, in [0, 1]."""


def uncertainty(
    mean: Tensor, std: Tensor, truth: Tensor, head: Tensor, *, draws: int
) -> dict[str, list[float]]:
    """{metric: one value a slice} of the mean and standard deviation (B, H, W) of K draws.

    coverage: the share of the head's pixels in which the truth lies within the 90 % interval of the
    next draw, were the draws normal: mean ± t √(1 + 1/K) std, with t of Student's distribution of
    K − 1 degrees of freedom. Of draws from the posterior it is 0.9.

    interval_factor: by how much the interval has to be widened to hold 90 % of those pixels, which
    is the 90 % quantile of the error over the interval's half width. Of draws from the posterior it
    is 1, of draws that are too sure it is more.

    spread: √((1 + 1/K) mean of std²) over the root mean square error of the mean, inside the head.
    Of draws from the posterior it is 1; less says that they are too sure.
    """
    next_draw = math.sqrt(1 + 1 / draws)
    width = float(student.ppf((1 + LEVEL) / 2, draws - 1)) * next_draw * std
    error = (truth - mean).abs()
    ratio = inside((next_draw * std).square(), head) / inside(error.square(), head)
    found = {"coverage": inside((error <= width).float(), head), "spread": ratio.sqrt()}
    needed = error / width.clamp(min=LEAST)
    found["interval_factor"] = torch.stack(
        [
            ratios[inner].quantile(LEVEL) if inner.any() else ratios.new_tensor(torch.nan)
            for ratios, inner in zip(needed, head, strict=True)
        ]
    )
    return {name: [float(v) for v in values] for name, values in found.items()}
