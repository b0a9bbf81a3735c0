"""Statistics over patients, from one number per slice."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import wilcoxon

RESAMPLES = 10_000
LEVEL = 0.95
Records = Sequence[Mapping[str, Any]]
Key = tuple[str, str, str, str]
"""(study, row, method, image)"""


@dataclass(frozen=True)
class Mean:
    """A mean over patients with its bootstrap 95 % interval."""

    value: float
    low: float
    high: float
    patients: int


def key_of(record: Mapping[str, Any]) -> Key:
    return record["study"], record["row"], record["method"], record["image"]


def by_patient(records: Records, metric: str) -> dict[Key, dict[str, float]]:
    """{key: {patient: mean over slices}}.

    Slices without a head or lesion are left out of metrics inside one. A result that is not finite
    makes the mean NaN.
    """
    inside = metric.startswith("mae") or metric.endswith(("_head", "_lesion"))
    values: dict[Key, dict[str, list[float]]] = {}
    for record in records:
        value = record.get(metric)
        if value is not None and not (inside and math.isnan(value)):
            values.setdefault(key_of(record), {}).setdefault(record["patient"], []).append(value)
    return {
        key: {patient: float(np.mean(slices)) for patient, slices in patients.items()}
        for key, patients in values.items()
    }


def mean_of(values: Iterable[float]) -> Mean:
    """The mean of one number per patient, with a bootstrap interval over patients."""
    found = np.array(list(values))
    if len(found) < 2:
        value = float(found.mean()) if len(found) else math.nan
        return Mean(value, math.nan, math.nan, len(found))
    tails = [50 * (1 - LEVEL), 50 * (1 + LEVEL)]
    low, high = np.percentile(found[resamples(len(found))].mean(1), tails)
    return Mean(float(found.mean()), float(low), float(high), len(found))


def resamples(count: int) -> NDArray[np.intp]:
    """Indices drawn with replacement, (RESAMPLES, count), the same ones every time."""
    return np.random.default_rng(0).integers(0, count, (RESAMPLES, count))


@dataclass(frozen=True)
class Difference:
    """The mean paired difference a − b over patients who have both, and Wilcoxon's p."""

    mean: Mean
    p: float


def difference(a: Mapping[str, float], b: Mapping[str, float]) -> Difference:
    """Paired, a − b."""
    gaps = np.array([a[patient] - b[patient] for patient in a if patient in b])
    p = float(wilcoxon(gaps).pvalue) if len(gaps) > 1 and gaps.any() else math.nan
    return Difference(mean_of(gaps), p)
