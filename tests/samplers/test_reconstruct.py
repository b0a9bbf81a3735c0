"""What reconstruct() refuses."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from any2all_core import GaussianPrior, reconstruct
from any2all_operators import (
    BlockDiagonal,
    Identity,
    Operator,
    UserError,
)
from builders.scans import sense

DATA: dict[str, tuple[Operator, object, str]] = {
    "a T1 in raw units": (
        Identity(),
        190 * np.ones((1, 24, 20)),
        r"T1: its image reaches 190; images lie in \[0, 1\]. Divide the data",
    ),
    "k-space in raw units": (
        sense(),
        sense().forward(400 * torch.ones(1, 24, 20)).numpy(),
        "T1: the image of its k-space reaches",
    ),
    "an image without slices": (Identity(), np.zeros((24, 20)), "expected real images"),
    "a complex image": (Identity(), np.zeros((1, 24, 20), complex), "expected real images"),
    "k-space of another size": (
        sense(),
        np.zeros((1, 3, 24, 22), complex),
        r"T1: k-space is \(1, 3, 24, 22\)",
    ),
    "real k-space": (sense(), np.zeros((1, 3, 24, 20)), "expected complex numbers"),
    "samples beside the mask": (
        sense(),
        np.ones((1, 3, 24, 20), complex),
        "holds samples where its mask is 0",
    ),
    "NaN": (Identity(), np.full((1, 24, 20), np.nan), "holds NaN or infinity"),
    "text": (Identity(), "T1.nii", "expected an array of numbers"),
}


@pytest.mark.parametrize("case", DATA)
def test_data_that_can_not_be_of_the_operator_is_refused(case: str) -> None:
    operator, data, expected = DATA[case]
    prior = GaussianPrior.of_pixels(("T1",), torch.zeros(1), torch.eye(1), (24, 20))
    with pytest.raises(UserError, match=expected):
        reconstruct(prior, BlockDiagonal({"T1": operator}), {"T1": data})
