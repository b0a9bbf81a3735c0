"""A missing image that a copy of a given one would come nearer to is said to be one."""

import math

import pytest
import torch
from any2all_app.copies import Nearness, copy_is_nearer, draw_nearness, quality_of
from any2all_core.gaussian import GaussianPrior

NAMES = ("T1", "FLAIR")
SIZE = (4, 4)


def drawn(correlation: float) -> torch.Tensor:
    """Slices (8, 2, 4, 4) in [0, 1] from the Gaussian of :func:`prior`."""
    z = torch.randn(8, 2, *SIZE, generator=torch.Generator().manual_seed(0))
    other = correlation * z[:, 0] + math.sqrt(1 - correlation**2) * z[:, 1]
    return (torch.stack([z[:, 0], other], 1) * 0.2 + 1) / 2


def prior(correlation: float) -> GaussianPrior:
    covariance = 0.04 * torch.tensor([[1.0, correlation], [correlation, 1.0]])
    return GaussianPrior.of_pixels(NAMES, torch.zeros(2), covariance, SIZE)


def test_a_prior_that_knows_is_nearer_than_a_copy_and_one_that_is_wrong_is_not() -> None:
    slices = drawn(-0.95)
    found = draw_nearness(prior(-0.95), slices)
    assert found["T1"]["FLAIR"].draw > found["T1"]["FLAIR"].copy + 3
    assert copy_is_nearer(found, "FLAIR", ["T1"]) is None
    alike = drawn(0.95)
    wrong = draw_nearness(prior(-0.95), alike)
    assert wrong["FLAIR"]["T1"].copy > wrong["FLAIR"]["T1"].draw + 3
    assert "a copy of FLAIR was nearer to it" in str(copy_is_nearer(wrong, "T1", ["FLAIR"]))


def test_a_copy_is_at_its_best_scale() -> None:
    slices = drawn(0.5)
    slices[:, 1] = slices[:, 0] / 2
    assert draw_nearness(prior(0.5), slices)["T1"]["FLAIR"].copy == pytest.approx(120, abs=0.1)


def test_what_is_said_is_of_what_is_given() -> None:
    found: dict[str, dict[str, Nearness]] = {
        "T1": {"CT": Nearness(20.0, 18.0), "FLAIR": Nearness(21.0, 23.0)},
        "FLAIR": {"CT": Nearness(19.0, 20.5), "T1": Nearness(25.0, 23.0)},
    }
    assert copy_is_nearer(found, "CT", ["T1"]) is None
    said = copy_is_nearer(found, "CT", ["T1", "FLAIR"])
    assert said is not None
    assert said.startswith("on held-out patients a copy of FLAIR was nearer to it (20.5 dB")
    assert "(20.0 dB)" in said
    assert copy_is_nearer(found, "PET", ["T1"]) is None
    assert copy_is_nearer({}, "CT", ["T1"]) is None


def test_the_quality_of_a_missing_image_is_always_said() -> None:
    found: dict[str, dict[str, Nearness]] = {"T1": {"CT": Nearness(20.0, 18.0)}}
    said = quality_of(found, "CT", ["T1"])
    assert "from T1 alone had 20.0 dB at the best scale, and a copy of T1 18.0 dB" in said
    assert "copy" not in quality_of(found, "CT", ["T1"], with_copy=False)
    assert "Do not trust" in quality_of({"T1": {"CT": Nearness(17.0, 18.0)}}, "CT", ["T1"])
    assert "was not measured" in quality_of(found, "PET", ["T1"])
