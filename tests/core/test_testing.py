"""What plugin authors' tests are made of."""

from __future__ import annotations

import numpy as np
import torch
from any2all_core.testing import MODALITIES, patient_stack, patient_volumes, phantom, tiny_prior


def test_a_phantom_is_as_bright_as_said_within_its_outline() -> None:
    one, other = phantom(24, 3, seed=1), phantom(24, 3, seed=2)
    assert one.shape == (24, 24, 3)
    inside = one > 0
    assert 105 <= one[inside].min() <= one.max() <= 195
    np.testing.assert_array_equal(inside, other > 0)
    assert not np.array_equal(one, other)
    np.testing.assert_array_equal(one, phantom(24, 3, seed=1))


def test_the_stack_holds_the_slices_of_the_volumes() -> None:
    stack = patient_stack(("CT", "PET"), size=16, depth=5)
    assert stack.shape == (5, 2, 16, 16)
    assert 0 <= float(stack.min()) <= float(stack.max()) <= 1
    volume = patient_volumes(("CT", "PET"), size=16, depth=5)["PET"]
    np.testing.assert_allclose(stack[3, 1].numpy() * 200, volume[:, :, 3], rtol=1e-6)


def test_a_tiny_prior_is_the_same_each_time_and_draws_no_number_of_yours() -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    prior = tiny_prior(levels="separate")
    assert torch.equal(torch.rand(1), expected)
    assert prior.settings.levels == "separate"
    assert prior.modalities == MODALITIES
    for one, other in zip(
        prior.parameters(), tiny_prior(levels="separate").parameters(), strict=True
    ):
        assert torch.equal(one, other)
        assert not one.requires_grad
