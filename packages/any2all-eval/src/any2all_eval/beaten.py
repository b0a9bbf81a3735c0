"""Comparison of samplers with simple references: each result that a reference beats is reported."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from any2all_eval.statistics import Key
from any2all_eval.study import Study
from any2all_eval.tables import METRICS, Line

COMPARED = ("psnr", "ssim", "psnr_scaled", "ssim_scaled")


@dataclass(frozen=True)
class Below:
    """A metric in which a reference beats a sampler: both means."""

    metric: str
    mean: float
    reference: str
    reference_mean: float


@dataclass(frozen=True)
class Compared:
    """One sampler's result for a row and image, and the metrics in which a reference beats it."""

    key: Key
    references: int
    below: tuple[Below, ...]

    @property
    def sentence(self) -> str:
        """A sentence with the row, the method, the references and the figures."""
        study, row, method, image = self.key
        beaten = [
            f"{METRICS[b.metric][0]} ({figure(b.metric, b.mean)}, "
            f"{b.reference} {figure(b.metric, b.reference_mean)})"
            for b in self.below
        ]
        listed = " and ".join([", ".join(beaten[:-1]), beaten[-1]] if beaten[1:] else beaten)
        return f"{study}, {row} ({image}): {method} is below a simple reference in {listed}."


def compare(studies: Sequence[Study], lines: Sequence[Line]) -> list[Compared]:
    """Compare every sampler result of a study with the references of its row, by the means."""
    samplers = {study.name: study.samplers for study in studies}
    groups: dict[tuple[str, str, str], dict[str, Line]] = {}
    for line in lines:
        study, row, method, image = line.key
        groups.setdefault((study, row, image), {})[method] = line
    found = []
    for (study, _, _), group in groups.items():
        simple = {m: line for m, line in group.items() if m not in samplers[study]}
        for method in (m for m in group if m in samplers[study]):
            below = tuple(_below(group[method], simple))
            found.append(Compared(group[method].key, len(simple), below))
    return found


def _below(line: Line, simple: Mapping[str, Line]) -> Iterator[Below]:
    """The metrics in which a reference is better; a finite mean beats one that is not finite."""
    for metric in COMPARED:
        if metric not in line.means:
            continue
        own = line.means[metric].value
        others = {m: s.means[metric].value for m, s in simple.items() if metric in s.means}
        finite = {m: value for m, value in others.items() if not math.isnan(value)}
        best = max(finite, key=finite.__getitem__, default=None)
        if best is not None and not own >= finite[best]:
            yield Below(metric, own, best, finite[best])


def told(compared: Sequence[Compared]) -> tuple[str, list[str]]:
    """The number of beaten results, and a sentence for each of them."""
    beside = [c for c in compared if c.references]
    sentences = [c.sentence for c in compared if c.below]
    if not beside:
        return "No result of a sampler has a simple reference beside it.", []
    count = f"{len(sentences)} of {len(beside)}" if sentences else f"none of {len(beside)}"
    alone = len(compared) - len(beside)
    more = f" Results without a simple reference: {alone}." if alone else ""
    what = "results of samplers in mean PSNR or SSIM (plain or at the best scale)"
    return f"A simple reference beats {count} {what}.{more}", sentences


def figure(metric: str, value: float) -> str:
    """22.31 dB"""
    if math.isnan(value):
        return "not finite"
    return f"{value:.{METRICS[metric][1]}f}{' dB' if metric.startswith('psnr') else ''}"
