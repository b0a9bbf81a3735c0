"""The look of images: heads like those of the training pass, other images are told apart."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from any2all_data.appearance import FEWEST_PATIENTS, Looks, look_of, unlike

SIZE = 64


def head(seed: int, *, scalp: float = 0.9, brain: float = 0.4, radius: float = 0.42) -> np.ndarray:
    """A head (5, 64, 64) in [0, 1]: a brain with folds in a bright scalp, which may be cut off."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[-0.5 : 0.5 : SIZE * 1j, -0.5 : 0.5 : SIZE * 1j]
    radius = radius * random.uniform(0.9, 1.1)
    distance = np.hypot(y, x * random.uniform(1.0, 1.2)) / radius
    folds = 1 + random.uniform(0.1, 0.2) * np.sin(40 * x) * np.sin(40 * y)
    image = np.where(distance < 0.85, brain * random.uniform(0.9, 1.1) * folds, scalp)
    return np.stack([np.where(distance < 1 - z / 50, image, 0.0) for z in range(5)]).astype("f4")


@pytest.fixture(scope="module")
def ranges() -> dict[str, dict[str, tuple[float, float]]]:
    looks = Looks(("T1", "FLAIR"))
    for seed in range(FEWEST_PATIENTS + 5):
        t1 = torch.from_numpy(head(seed))
        missing = torch.full_like(t1, torch.nan)
        looks.add(torch.stack([t1, missing], 1))
    return looks.ranges()


def test_a_modality_that_few_patients_have_gets_no_range(
    ranges: dict[str, dict[str, tuple[float, float]]],
) -> None:
    assert set(ranges) == {"T1"}
    few = Looks(("T1",))
    for seed in range(FEWEST_PATIENTS - 1):
        few.add(torch.from_numpy(head(seed))[:, None])
    assert few.ranges() == {}


def test_other_heads_of_the_kind_pass(ranges: dict[str, dict[str, tuple[float, float]]]) -> None:
    for seed in range(100, 130):
        assert unlike(head(seed), ranges["T1"]) == []


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (head(0, scalp=0.0), "the mean of the outer 3 pixels of the head"),
        (head(0, brain=0.85), "the standard deviation over the mean"),
        (head(0, radius=0.15), "the share of the slice that is head"),
        (head(0).clip(0, 1) ** 0.2, "the mean in the head"),
    ],
    ids=["skull-stripped", "another contrast", "another field of view", "another scale"],
)
def test_another_kind_is_told(
    ranges: dict[str, dict[str, tuple[float, float]]], image: np.ndarray, said: str
) -> None:
    found = unlike(image, ranges["T1"])
    assert any(text.startswith(said) for text in found), found


def test_nothing_is_said_of_images_without_heads() -> None:
    assert look_of(np.zeros((9, 16, 16), np.float32)) is None
    assert look_of(head(0)[:2]) is None
    frame = np.zeros((9, 16, 16), np.float32)
    frame[:, 0] = frame[:, :, 0] = 1.0
    assert look_of(frame) is None
    assert unlike(np.zeros((9, 16, 16), np.float32), {"head": (0.3, 0.4)}) == []
