"""The paper's claims, each decided by a test over patients.

A claim consists of one or more paired differences over patients that should be above 0. It holds if
all of them are above 0 with Wilcoxon's p below 0.05. It does not hold if one of them is below 0
with p below 0.05 divided by their number (Bonferroni). Otherwise, and always with fewer than six
patients, it is not decidable, and ``patients_needed`` estimates how many patients would decide it.
Perceptual quality is judged by the first measure of PERCEPTUAL that was computed; without any of
them, that claim is not measured.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

from any2all_eval.perception import DISTANCE, KERNEL
from any2all_eval.statistics import Difference, Mean, Records, by_patient, difference
from any2all_eval.study import CLEAN, Row, Study

SIGNIFICANT = 0.05
POWER = 0.8
"""Probability that ``patients_needed`` patients decide a claim."""
PERCEPTUAL = ("lpips", KERNEL, DISTANCE)
"""Perceptual measures, lower is better. The first one that was computed decides."""
MANY = 1000
"""A decision that needs more patients than this gives no number of them."""
Cell = tuple[str, str]
"""(row, method)"""
Pair = tuple[Cell, Cell]
Verdict = Literal["holds", "does not hold", "not decidable"]


@dataclass(frozen=True)
class Step:
    """One difference that should be above 0 according to a claim."""

    what: str
    metric: str
    found: Difference


@dataclass(frozen=True)
class Claim:
    """A claim and its differences; ``steps`` is empty if nothing was measured that decides it."""

    text: str
    steps: tuple[Step, ...]

    @property
    def verdict(self) -> Verdict:
        found = [step.found for step in self.steps]
        if any(f.mean.value < 0 and f.p < SIGNIFICANT / len(found) for f in found):
            return "does not hold"
        if found and all(f.mean.value > 0 and f.p < SIGNIFICANT for f in found):
            return "holds"
        return "not decidable"

    @property
    def patients_needed(self) -> int | None:
        r"""About how many patients would decide the claim, if differences are as large as found.

        A difference d with standard deviation s between patients is significant at level α with
        probability POWER for

        .. math:: n = \left(\frac{z_{1-α/2} + z_{POWER}}{d / s}\right)^2

        patients (normal approximation). One negative difference refutes a claim, at Bonferroni's α,
        so the smallest such n counts. Without one, all undecided differences must become
        significant, and the largest n counts. None if the claim is decided, or if s is unknown.
        """
        found = [step.found for step in self.steps]
        spread = [f for f in found if f.mean.high > f.mean.low and f.mean.value]
        if self.verdict != "not decidable" or not spread:
            return None
        negative = [f for f in spread if f.mean.value < 0]
        if negative:
            return min(_needed(f, SIGNIFICANT / len(found)) for f in negative)
        undecided = [f for f in spread if not f.p < SIGNIFICANT]
        return max((_needed(f, SIGNIFICANT) for f in undecided), default=None)

    @property
    def decision(self) -> str:
        """The verdict: not decidable (about 40 patients would decide it)."""
        needed = self.patients_needed
        if needed is None:
            return self.verdict
        told = f"about {needed}" if needed <= MANY else f"more than {MANY}"
        return f"{self.verdict} ({told} patients would decide it)"


def _needed(found: Difference, level: float) -> int:
    """Patients who show a difference, if it is as large as found; s is from its 95 % interval.

    They are at least as many as Wilcoxon's test needs, whose p is 2/2^n or more.
    """
    normal, mean = NormalDist(), found.mean
    error = (mean.high - mean.low) / (2 * normal.inv_cdf(0.975))  # the bootstrap's: s √(n-1) / n
    deviation = error * mean.patients / math.sqrt(mean.patients - 1)
    z = normal.inv_cdf(1 - level / 2) + normal.inv_cdf(POWER)
    least = math.floor(math.log2(2 / level)) + 1
    return max(least, math.ceil((z * deviation / mean.value) ** 2))


class Results:
    """The results of each row and method of the studies, by patient."""

    def __init__(self, studies: Sequence[Study], records: Records) -> None:
        self.studies = studies
        self.metrics = {m: by_patient(records, m) for m in ("psnr", *PERCEPTUAL)}

    def step(
        self, study: Study, image: str, cells: Pair, *, metric: str = "psnr", sign: float = 1.0
    ) -> list[Step]:
        """The difference of two (row, method), the better one first, if both were measured."""
        better, worse = cells
        found = self.metrics[metric]
        keys = [(study.name, *cell, image) for cell in (better, worse)]
        if any(key not in found for key in keys):
            return []
        a, b = ({p: sign * v for p, v in found[key].items()} for key in keys)
        what = f"{label(better, worse)} over {label(worse, better)}"
        return [Step(what, metric, difference(a, b))]

    def growing(self) -> Iterator[tuple[Study, str, list[Row]]]:
        """(study, target, rows with one more clean image each), measured in the same way."""
        for study in self.studies:
            chains: dict[tuple[str, frozenset[str]], list[Row]] = {}
            for row in study.rows:
                clean = {f"{modality}={CLEAN}" for modality in row.clean}
                if len(row.scored) == 1 and not set(row.measured) - set(row.scored):
                    chains.setdefault((row.scored[0], row.inputs - clean), []).append(row)
            for (target, _), rows in chains.items():
                pairs = itertools.pairwise(rows)
                if len(rows) > 1 and all(set(a.clean) < set(b.clean) for a, b in pairs):
                    yield study, target, rows


def label(cell: Cell, other: Cell) -> str:
    """The part of a (row, method) that differs from another, and the rest in brackets."""
    row, method = cell
    return f"{method} ({row})" if row == other[0] else f"{row} ({method})"


def quality_grows(results: Results) -> Iterator[Step]:
    for study, target, rows in results.growing():
        for sampler in study.samplers:
            for fewer, more in itertools.pairwise(rows):
                cells = (more.name, sampler), (fewer.name, sampler)
                yield from results.step(study, target, cells)


def first_gains_most(results: Results) -> Iterator[Step]:
    """Compare the gain by the first clean image with that by each further one."""
    found = results.metrics["psnr"]
    for study, target, rows in results.growing():
        for sampler in study.samplers:
            keys = [(study.name, row.name, sampler, target) for row in rows]
            if rows[0].clean or any(key not in found for key in keys):
                continue
            first, *others = (
                {p: found[more][p] - found[fewer][p] for p in found[more] if p in found[fewer]}
                for fewer, more in itertools.pairwise(keys)
            )
            for row, gain in zip(rows[2:], others, strict=True):
                what = f"gain of {rows[1].name} over that of {row.name} ({sampler})"
                yield Step(what, "psnr", difference(first, gain))


def samplers_compared(
    better: str, worse: str, *, metric: str, measured: bool | None, sign: float = 1.0
) -> Callable[[Results], Iterator[Step]]:
    """Compare two samplers row by row.

    ``measured`` restricts this to rows whose judged image was measured (True) or missing (False);
    None takes all rows.
    """

    def steps(results: Results) -> Iterator[Step]:
        for study in results.studies:
            one, other = (
                next((s for s in study.samplers if s.split(":")[0] == name), None)
                for name in (better, worse)
            )
            if one is None or other is None:
                continue
            for row in study.rows:
                for image in row.scored:
                    if measured in (None, image in row.measured):
                        cells = (row.name, one), (row.name, other)
                        yield from results.step(study, image, cells, metric=metric, sign=sign)

    return steps


def mps_looks_better(results: Results) -> Iterator[Step]:
    """Compare MPS with MDS by the first measure of PERCEPTUAL that was computed."""
    metric = next((m for m in PERCEPTUAL if results.metrics[m]), PERCEPTUAL[0])
    yield from samplers_compared("mps", "mds", metric=metric, measured=None, sign=-1.0)(results)


def measurements_gain(results: Results) -> Iterator[Step]:
    """Among rows of k-space only, compare each row with those that have one measurement less."""
    for study, row, fewer in _pairs(results):
        between = (r for r in study.rows if fewer.inputs < r.inputs < row.inputs)
        if not row.clean and fewer.inputs < row.inputs and not any(between):
            yield from _each(results, study, row, fewer)


def more_than_cleaner(results: Results) -> Iterator[Step]:
    """Compare k-space of more modalities with fewer of which one is clean, at the same R."""
    for study, row, cleaner in _pairs(results):
        clean = {f"{modality}={CLEAN}" for modality in cleaner.clean}
        shared = cleaner.inputs - clean
        more = len(row.known) > len(cleaner.known)
        if more and not row.clean and clean and shared and shared < row.inputs:
            yield from _each(results, study, row, cleaner)


def _pairs(results: Results) -> Iterator[tuple[Study, Row, Row]]:
    for study in results.studies:
        for row, other in itertools.permutations(study.rows, 2):
            if (row.scored, row.through) == (other.scored, other.through):
                yield study, row, other


def _each(results: Results, study: Study, better: Row, worse: Row) -> Iterator[Step]:
    for sampler in study.samplers:
        for image in better.scored:
            cells = (better.name, sampler), (worse.name, sampler)
            yield from results.step(study, image, cells)


def beside_methods(measured: bool) -> Callable[[Results], Iterator[Step]]:
    """Compare the first sampler of a study with each trained method, row by row."""

    def steps(results: Results) -> Iterator[Step]:
        for study in results.studies:
            own = [s for s in study.samplers if s not in study.methods]
            for row, method in itertools.product(study.rows, study.methods if own else ()):
                for image in row.scored:
                    if (image in row.measured) == measured:
                        cells = (row.name, own[0]), (row.name, method)
                        yield from results.step(study, image, cells)

    return steps


CLAIMS: Mapping[str, Callable[[Results], Iterator[Step]]] = {
    "quality grows with every added modality": quality_grows,
    "the first clean modality gains most": first_gains_most,
    "MDS beats MPS in PSNR for reconstruction": samplers_compared(
        "mds", "mps", metric="psnr", measured=True
    ),
    "MPS beats MDS in PSNR for synthesis": samplers_compared(
        "mps", "mds", metric="psnr", measured=False
    ),
    "MPS has the better perceptual score": mps_looks_better,
    "a prior beats methods trained for synthesis": beside_methods(False),
    "a prior beats methods trained for reconstruction": beside_methods(True),
    "mixed inputs gain with each measurement": measurements_gain,
    "more modalities matter more than cleaner ones": more_than_cleaner,
}


def decide(results: Results) -> list[Claim]:
    """Decide every claim by the results."""
    return [Claim(text, tuple(steps(results))) for text, steps in CLAIMS.items()]


def said(mean: Mean, decimals: int = 2) -> str:
    """0.52 [0.31, 0.70]."""
    if math.isnan(mean.low):
        return f"{mean.value:.{decimals}f}"
    return f"{mean.value:.{decimals}f} [{mean.low:.{decimals}f}, {mean.high:.{decimals}f}]"
