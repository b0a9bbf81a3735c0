"""Which precision is taken where, and what is seen of the machine."""

from __future__ import annotations

import os

import pytest
import torch
from any2all_core.hardware import (
    FASTER,
    Machine,
    bfloat16_speedup,
    choose_dtype,
    free_memory,
    is_worth_bfloat16,
    processor_has_bfloat16,
)
from any2all_operators import UserError


def never() -> float:
    raise AssertionError("it was measured")


def test_bfloat16_is_taken_where_it_is_named_or_measured_to_be_faster() -> None:
    assert is_worth_bfloat16(True, True, never)
    assert not is_worth_bfloat16(False, False, never)
    assert is_worth_bfloat16(False, True, lambda: 1.9)
    assert not is_worth_bfloat16(False, True, lambda: 0.6)  # emulated
    assert not is_worth_bfloat16(False, True, lambda: 1.1)  # no more than noise


def test_precision_follows_the_hardware(monkeypatch: pytest.MonkeyPatch) -> None:
    for has, expected in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *_, has=has, **__: has)
        assert choose_dtype("auto", "cuda") == expected
    assert choose_dtype("float32", "cuda") == torch.float32
    with pytest.raises(UserError, match="use auto, float32 or bfloat16"):
        choose_dtype("float16")


def test_the_processor_is_asked_once_and_what_it_is_taken_for_is_true() -> None:
    processor_has_bfloat16.cache_clear()
    dtypes = {choose_dtype() for _ in range(3)}
    assert processor_has_bfloat16.cache_info().misses == 1
    speedup = bfloat16_speedup()
    assert dtypes == {torch.bfloat16 if speedup >= FASTER else torch.float32}


def test_a_machine_is_this_one(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine.here("cpu")
    assert machine.cores == len(os.sched_getaffinity(0))
    assert 0 < machine.memory <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert "no GPU" in str(machine)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert Machine.here("cpu").memory < 0.3 * free_memory()
