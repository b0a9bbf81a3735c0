"""The records of a study, as if it had been run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def records(gains: dict[str, list[float]]) -> Iterator[dict[str, Any]]:
    """Of a study's rows: the PSNR of each patient."""
    for row, values in gains.items():
        for patient, value in enumerate(values):
            yield {
                "study": "reconstruction", "row": row, "method": "mds", "image": "FLAIR",
                "patient": str(patient), "psnr": value,
            }  # fmt: skip
