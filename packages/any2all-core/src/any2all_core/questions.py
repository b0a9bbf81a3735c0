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
    generators: Sequence[torch.Generator],
    absent: Tensor,
    diffusion_steps: int,
    shares: Sequence[float],
) -> tuple[Tensor, Tensor]:
    """The times of examples, (B, M), and which of their modalities bear the loss, (B, M).

    ``generators``: of each example; ``absent``: (B, M), modalities that a patient lacks: always at
    T−1, and without loss.

    0 stands for a clean image, T−1 for one that is missing, and t ~ U{0 ... T−1}. The question is
    drawn with the probabilities ``shares``, in the order of QUESTIONS:

    - joint: one t for all, the paper's prior
    - given: a random proper subset is clean, the others are at one t; what draws ask for
    - mean: a random subset is clean, the others are missing; one call gives their posterior mean
    - mixed: each is clean, at one t, or missing; what reconstruction beside missing images asks for
    - apart: a t for each; what noisy images ask for

    What is clean bears no loss.
    """
    count, last = absent.shape[1], diffusion_steps - 1
    drawn = torch.stack([torch.rand(2 + 2 * count, generator=g).double() for g in generators])
    which, chosen = drawn[:, :1], drawn[:, 1:2]
    t = (drawn[:, 2 : 2 + count] * diffusion_steps).long()
    upto = torch.tensor(shares, dtype=torch.float64).cumsum(0)
    question = (which * upto[-1] >= upto[:-1]).sum(1, keepdim=True)
    joint, _, mean, mixed, apart = (question == k for k in range(len(QUESTIONS)))
    # 0 clean, 1 at t, 2 missing
    role = (drawn[:, 2 + count :] * torch.where(mixed, 3, 2)).long()
    role = torch.where(joint | apart, 1, torch.where(mean, 2 * role, role))
    # something that the patient has is asked for
    there = ~absent
    place = (chosen * there.sum(1, keepdim=True)).long()
    some = there & (there.cumsum(1) - 1 == place)
    role = torch.where(some, torch.where(mean, 2, 1), role)
    at_t = torch.where(apart, t, t[:, :1])
    times = torch.where(role == 0, 0, torch.where(role == 1, at_t, last))
    return torch.where(absent, last, times), (role > 0) & there
