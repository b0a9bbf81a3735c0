"""The questions of training: which noise level each modality of an example has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

Question = Literal["joint", "given", "mean", "mixed", "apart"]
QUESTIONS: tuple[Question, ...] = get_args(Question)

JOINT = (1.0, 0.0, 0.0, 0.0, 0.0)
"""Shares of QUESTIONS for a prior whose modalities share one noise level."""


def draw_times(
    generators: Sequence[torch.Generator],
    absent: Tensor,
    diffusion_steps: int,
    shares: Sequence[float],
) -> tuple[Tensor, Tensor]:
    """Draw the times of examples, (B, M), and which modalities enter the loss, (B, M).

    There is one generator per example. ``absent``, (B, M), marks modalities that a patient lacks;
    they are always at T−1 and never enter the loss.

    Time 0 stands for a clean image, T−1 for a missing one, and t ~ U{0 ... T−1}. The question is
    drawn with the probabilities ``shares``, in the order of QUESTIONS:

    - joint: all modalities are at one t, as in the paper
    - given: a random proper subset is clean and the others are at one t, as in conditional sampling
    - mean: a random subset is clean and the others are missing; one call gives their posterior mean
    - mixed: each modality is clean, at one t, or missing, as in reconstruction with missing images
    - apart: each modality has its own t, as with noisy images

    Clean modalities do not enter the loss.
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
    # at least one modality that the patient has enters the loss
    there = ~absent
    place = (chosen * there.sum(1, keepdim=True)).long()
    some = there & (there.cumsum(1) - 1 == place)
    role = torch.where(some, torch.where(mean, 2, 1), role)
    at_t = torch.where(apart, t, t[:, :1])
    times = torch.where(role == 0, 0, torch.where(role == 1, at_t, last))
    return torch.where(absent, last, times), (role > 0) & there
