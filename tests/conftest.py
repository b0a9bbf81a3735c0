"""What all tests share: one thread for each process, and the longest files first."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # the tests share the cores among themselves

import pytest
import torch

torch.set_num_threads(1)

LONGEST = (
    *("test_plugin_packages", "test_evaluate", "test_distributed", "test_interruptions"),
    *("test_dicom_refused", "test_prepare", "test_prepare_interrupted", "test_registration"),
    *(
        "test_quick",
        "test_readme",
        "test_packaging",
        "test_cli",
        "test_raw_defects",
        "test_training",
    ),
)
"""Files that take longest, which begin first, so that no process waits for another in the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    order = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.path.stem, len(order)))
