"""A quick look: a few slices of a few patients, cheap methods first, within a time limit.

Its results are kept beside the complete parts, in full precision. The whole study reuses them and
computes only the other slices.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from any2all_app.measurement import Trained
from any2all_core.prior import DiffusionPrior

from any2all_eval.evaluator import COST, Evaluator
from any2all_eval.parts import PARTS, TRUTH, Part, keep_truth, of_slices
from any2all_eval.patients import Patient, evenly
from any2all_eval.work import Work

FEW, PATIENTS = 2, 3
"""Slices per patient, and patients, of a quick look."""
WITHIN = 70.0
"""Time limit in seconds. A part is started only if it is expected to end before."""
TUNING = 12.0
"""Expected seconds of a reference that has to be tuned, until one was measured."""


@dataclass
class Pace:
    """Seconds per pass of the network and slice, and per reference that was computed."""

    a_pass: float
    references: dict[str, float] = field(default_factory=dict)

    def expected(self, part: Part, passes: int) -> float:
        """Expected seconds for a part of FEW slices."""
        if part.sampled:
            return FEW * passes * self.a_pass
        return self.references.get(part.method, TUNING if part.method in COST else 0.0)


def quick_look(
    evaluator: Evaluator,
    patients: Mapping[str, Patient],
    began: float,
    rewrite: Callable[[], None],
) -> tuple[int, int]:
    """Compute parts of a few slices as long as there is time; returns (done, total).

    ``began`` is ``time.monotonic()`` at the start of the run. ``rewrite`` is called as parts
    finish.
    """
    chosen = {n: of_slices(p, evenly(len(p.places), FEW)) for n, p in patients.items()}
    for name, patient in chosen.items():
        folder = evaluator.output / PARTS / name
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / TRUTH).exists():
            keep_truth(folder, patient, evaluator.prior.modalities)
    parts = in_order(evaluator)
    pace = Pace(seconds_a_pass(evaluator.prior, next(iter(chosen.values()))))
    done, total = 0, len(parts) * len(chosen)
    work = Work(evaluator.observer, dict.fromkeys(chosen, sum(map(evaluator.weight, parts))))
    for part, name in ((part, name) for part in parts for name in chosen):
        folder = evaluator.output / PARTS / name
        if part.there(folder) is None:
            started = time.monotonic()
            if started + pace.expected(part, evaluator.cost(part)) > began + WITHIN:
                continue
            evaluator.do(part, chosen[name], folder, few=True)
            if not part.sampled:
                pace.references[part.method] = time.monotonic() - started
            rewrite()
        done += 1
        work.done(evaluator.weight(part))
    return done, total


def in_order(evaluator: Evaluator) -> list[Part]:
    """The parts: cheap ones of the first and last row of a study, of its other rows, dear ones.

    A part is cheap if it costs no more than the cheapest sampler of the same row, so that a sampler
    is soon compared with its references. The other parts come last, ordered by cost.
    """
    parts = evaluator.parts()
    costs = [evaluator.cost(part) for part in parts]
    cheapest: dict[tuple[str, str], int] = {}
    for part, cost in zip(parts, costs, strict=True):
        if part.sampled:
            key = (part.study.name, part.row.name)
            cheapest[key] = min(cost, cheapest.get(key, cost))

    def place(k: int) -> tuple[bool, bool, int, int]:
        part, rows = parts[k], parts[k].study.rows
        dear = costs[k] > cheapest.get((part.study.name, part.row.name), 0)
        return dear, part.row.name not in (rows[0].name, rows[-1].name), costs[k], k

    return [parts[k] for k in sorted(range(len(parts)), key=place)]


def seconds_a_pass(prior: Trained, patient: Patient) -> float:
    """Measured seconds of a network pass per slice; 0 for methods, which need only few calls."""
    if not isinstance(prior, DiffusionPrior):
        return 0.0
    x_t = torch.zeros(patient.stack.shape).to(prior.device)
    seconds = 0.0
    for _ in range(2):  # the first pass is slower
        started = time.monotonic()
        with torch.no_grad():
            prior.denoise(x_t, prior.schedule.steps // 2)
        seconds = time.monotonic() - started
    return seconds / len(x_t)
