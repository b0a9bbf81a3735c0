"""Calibration of the draws: their spread compared with their error."""

from __future__ import annotations

import math

import torch
from scipy.stats import t as student
from torch import Tensor

from any2all_eval.metrics import inside

LEVEL = 0.9
"""Nominal coverage of the interval."""
LEAST = 1e-9
"""Least half width of an interval, in [0, 1]."""


def uncertainty(
    mean: Tensor, std: Tensor, truth: Tensor, head: Tensor, *, draws: int
) -> dict[str, list[float]]:
    """{metric: one value per slice} of the mean and standard deviation (B, H, W) of K draws.

    coverage is the share of the head's pixels in which the truth lies within the 90 % interval of
    the next draw. For normal draws this interval is mean ± t √(1 + 1/K) std, with t of Student's
    distribution with K − 1 degrees of freedom. It is 0.9 for draws of the posterior.

    interval_factor is the factor by which the interval has to be widened to hold 90 % of those
    pixels. It is the 90 % quantile of the error over the interval's half width. It is 1 for draws
    of the posterior and above 1 for overconfident draws.

    spread is √((1 + 1/K) mean of std²) over the root mean square error of the mean, inside the
    head. It is 1 for draws of the posterior and below 1 for overconfident draws.
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
