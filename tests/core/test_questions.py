"""The questions that training asks of a prior with a noise level for each modality."""

from __future__ import annotations

import pytest
import torch
from any2all_core.noise import generator
from any2all_core.questions import QUESTIONS, draw_times

LAST = 999


@pytest.mark.parametrize("question", QUESTIONS)
def test_each_question_is_what_it_says(question: str) -> None:
    shares = [float(q == question) for q in QUESTIONS]
    present, seen = torch.zeros(300, 4, dtype=torch.bool), set()
    drawn = draw_times([generator(k) for k in range(300)], present, 1000, shares)
    for times, asked in zip(*drawn, strict=True):
        below = times[(times > 0) & (times < LAST)]
        assert asked.any()
        assert not times[~asked].any()
        seen.add(tuple(asked.tolist()))
        if question == "joint":
            assert len(times.unique()) == 1
            assert asked.all()
        elif question == "given":
            assert len(times[asked].unique()) == 1
            assert not asked.all() or len(times.unique()) == 1
        elif question == "mean":
            assert bool((times[asked] == LAST).all())
        elif question == "mixed":
            assert len(below.unique()) <= 1
        else:
            assert asked.all()
            assert len(times.unique()) > 1
    assert len(seen) == {"joint": 1, "apart": 1}.get(question, 15)


def test_an_absent_image_is_never_asked_for() -> None:
    absent = torch.tensor([False, True, False]).expand(200, -1)
    random = [generator(k) for k in range(200)]
    times, asked = draw_times(random, absent, 1000, (1, 1, 1, 1, 1))
    assert bool((times[:, 1] == LAST).all())
    assert not asked[:, 1].any()
    assert asked.any(1).all()
    times, asked = draw_times(random[:1], torch.ones(1, 3, dtype=torch.bool), 1000, (1, 1, 1, 1, 1))
    assert not asked.any()
    assert bool((times == LAST).all())
