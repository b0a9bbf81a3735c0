"""Processes that share work, each of which may die."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from any2all_data.processes import ATTEMPTS, in_processes
from builders.deaths import kills_its_process

pytestmark = pytest.mark.slow


def test_a_task_is_given_up_when_its_processes_die_again_and_again(tmp_path: Path) -> None:
    for number in (1, 2, ATTEMPTS, ATTEMPTS + 1, 999):
        (tmp_path / f"{number}.txt").touch()
    tasks = sorted(tmp_path.iterdir())
    done = dict(in_processes(kills_its_process, tasks, 2, preload="builders.deaths"))
    attempts = {int(task.stem): len(task.read_text().splitlines()) for task in tasks}
    assert attempts == {1: 1, 2: 2, ATTEMPTS: ATTEMPTS, ATTEMPTS + 1: ATTEMPTS, 999: ATTEMPTS}
    given_up = {int(task.stem) for task, result in done.items() if result is None}
    assert given_up == {ATTEMPTS + 1, 999}
    assert os.getpid() not in done.values()
