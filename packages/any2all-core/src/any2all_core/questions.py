"""Which noise level each modality of a training example has: the questions a prior is asked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

Question = Literal["joint", "given", "mean", "mixed", "apart"]
QUESTIONS: tuple[Question, ...] = get_args(Question)

JOINT = (1.0, 0.0, 0.0, 0.0, 0.0)
"""Shares of QUESTIONS: the only question of a prior with one level for all."""


def draw_times(
    generator: torch.Generator,
    absent: Tensor,
    diffusion_steps: int,
    shares: Sequence[float],
) -> tuple[Tensor, Tensor]:
    """The times of one example, (M,), and which of its modalities bear the loss, (M,).

    ``absent``: (M,), modalities that the patient lacks: always at T−1, and without loss.

    0 stands for a clean image, T−1 for one that is missing, and t ~ U{0 ... T−1}. The question is
    drawn with the probabilities ``shares``, in the order of QUESTIONS:

    - joint: one t for all, the paper's prior
    - given: a random proper subset is clean, the others are at one t; what draws ask for
    - mean: a random subset is clean, the others are missing; one call gives their posterior mean
    - mixed: each is clean, at one t, or missing; what reconstruction beside missing images asks for
    - apart: a t for each; what noisy images ask for

    What is clean bears no loss.
    """
    count, last = len(absent), diffusion_steps - 1
    asked = QUESTIONS[int(torch.multinomial(torch.tensor(shares).double(), 1, generator=generator))]
    t = torch.randint(0, diffusion_steps, (count,), generator=generator)
    role = torch.randint(0, 2, (count,), generator=generator)  # 0 clean, 1 at t, 2 missing
    if asked in ("joint", "apart"):
        role = torch.ones(count, dtype=torch.long)
    elif asked == "mixed":
        role = torch.randint(0, 3, (count,), generator=generator)
    elif asked == "mean":
        role = 2 * role
    there = (~absent).nonzero().flatten()
    if len(there):  # something that the patient has is asked for
        some = there[int(torch.randint(0, len(there), (1,), generator=generator))]
        role[some] = 2 if asked == "mean" else 1
    at_t = t if asked == "apart" else t[:1].expand(count)
    times = torch.where(role == 0, 0, torch.where(role == 1, at_t, last))
    return torch.where(absent, last, times), (role > 0) & ~absent
