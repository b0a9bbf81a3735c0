"""The noise schedule and its thinning."""

from __future__ import annotations

import math

import pytest
import torch
from any2all_core import Schedule


def test_alpha_bar_is_the_cosine_of_nichol_and_dhariwal() -> None:
    alpha_bar = Schedule(1000).alpha_bar
    f = [math.cos((t / 1000 + 0.008) / 1.008 * math.pi / 2) ** 2 for t in range(1001)]
    for t in (0, 100, 500, 900):
        assert float(alpha_bar[t]) == pytest.approx(f[t + 1] / f[0], rel=1e-9)
    assert torch.all(alpha_bar[1:] < alpha_bar[:-1])


@pytest.mark.parametrize("spacing", ["sigma", "uniform"])
@pytest.mark.parametrize("n", [1, 2, 7, 20, 50, 150, 333, 999, 1000])
def test_exactly_n_distinct_times_from_last_to_first(n: int, spacing: str) -> None:
    times = Schedule(1000).timesteps(n, spacing)  # type: ignore[arg-type]
    assert len(times) == n
    assert times == sorted(set(times), reverse=True)
    assert times[0] == 999
    assert n == 1 or times[-1] == 0


@pytest.mark.parametrize("start", [0.001, 0.5, 1.5, 1e9])
@pytest.mark.parametrize("n", [1, 2, 4, 20, 150, 999, 1000])
def test_spacing_by_sigma_from_a_level_on(n: int, start: float) -> None:
    """Exactly n distinct times, most of them below the level."""
    schedule = Schedule(1000)
    times = schedule.timesteps(n, start=start)
    assert len(times) == n
    assert times == sorted(set(times), reverse=True)
    if n == 20 and start == 1.5:
        levels = schedule.sigma[times[1:]]
        torch.testing.assert_close(
            levels[:2].float(), 1.5 * torch.tensor([2.0, 1.0]).exp(), rtol=0.02, atol=0
        )
        assert bool((levels[2:] < 1.5).all())


def test_impossible_numbers_of_steps_are_refused() -> None:
    with pytest.raises(ValueError, match="1 to 1000"):
        Schedule(1000).timesteps(1001)
