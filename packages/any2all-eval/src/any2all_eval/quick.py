"""A quick look: a few slices of a few patients, the main question first, within a time limit.

Its results are kept beside the complete parts, in full precision. The whole study reuses them and
computes only the other slices.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from any2all_app.measurement import Trained
from any2all_core.prior import DiffusionPrior

from any2all_eval.evaluator import COST, Evaluator
from any2all_eval.lesions import SHOWS_LESIONS
from any2all_eval.parts import PARTS, TRUTH, Part, keep_truth, of_slices
from any2all_eval.patients import Patient, evenly
from any2all_eval.work import Work

FEW, PATIENTS = 2, 3
"""Slices per patient, and patients, of a quick look."""
WITHIN = 70.0
"""Time limit in seconds. A part is started only if it is expected to end before, with the exception
of the main questions for the first patient."""
ITERATIVE = 4.0
"""Expected seconds of an iterative reference, until one was measured."""
STRONGEST = "L1-wavelet"
"""The iterative reference that usually is the best one."""


@dataclass
class Pace:
    """Seconds per pass of the network and slice, and per reference that was computed."""

    a_pass: float
    references: dict[str, float] = field(default_factory=dict)

    def expected(self, part: Part, passes: int) -> float:
        """Expected seconds for a part of FEW slices."""
        if part.sampled:
            return FEW * passes * self.a_pass
        return self.references.get(part.method, ITERATIVE if part.method in COST else 0.0)


def quick_look(
    evaluator: Evaluator,
    patients: Mapping[str, Patient],
    began: float,
    rewrite: Callable[[], None],
) -> tuple[int, int]:
    """Compute parts of a few slices as long as there is time; returns (done, total).

    The main questions are answered for the first patient however slow the machine is.

    ``began`` is ``time.monotonic()`` at the start of the run. ``rewrite`` is called as parts
    finish.
    """
    chosen = {n: of_slices(p, evenly(len(p.places), FEW)) for n, p in patients.items()}
    for name, patient in chosen.items():
        folder = evaluator.output / PARTS / name
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / TRUTH).exists():
            keep_truth(folder, patient, evaluator.prior.modalities)
    first, then = in_order(evaluator)
    pairs = [(part, name) for name in chosen for part in first]
    pairs += [(part, name) for part in then for name in chosen]
    pace = Pace(seconds_a_pass(evaluator.prior, next(iter(chosen.values()))))
    done, total = 0, len(pairs)
    weight = sum(map(evaluator.weight, [*first, *then]))
    work = Work(evaluator.observer, dict.fromkeys(chosen, weight))
    for k, (part, name) in enumerate(pairs):
        folder = evaluator.output / PARTS / name
        if part.there(folder) is None:
            started = time.monotonic()
            late = started + pace.expected(part, evaluator.cost(part)) > began + WITHIN
            if late and k >= len(first):
                continue
            evaluator.do(part, chosen[name], folder, few=True)
            if not part.sampled:
                pace.references[part.method] = time.monotonic() - started
            rewrite()
        done += 1
        work.done(evaluator.weight(part))
    return done, total


def in_order(evaluator: Evaluator) -> tuple[list[Part], list[Part]]:
    """The parts that answer the main question of each study, and the other parts.

    The main question is asked by the last row that has references, of those of the image that
    shows lesions if there are any. It is answered by the cheapest sampler beside the references:
    all that cost no more, and STRONGEST. Cheap parts of other rows come next, then dear ones. A
    part is cheap if it costs no more than the cheapest sampler of the same row.
    """
    parts = sorted(evaluator.parts(), key=evaluator.cost)
    cheapest: dict[tuple[str, str], int] = {}
    for part in parts:
        if part.sampled:
            cheapest.setdefault(_row(part), evaluator.cost(part))
    main = set(_main_rows(evaluator.parts()).values())
    first: list[Part] = []
    cheap: list[Part] = []
    dear: list[Part] = []
    for part in parts:
        is_dear = evaluator.cost(part) > cheapest.get(_row(part), 0)
        if _row(part) in main and (part.method == STRONGEST or not is_dear):
            first.append(part)
        else:
            (dear if is_dear else cheap).append(part)
    return first, cheap + dear


def _main_rows(parts: Sequence[Part]) -> dict[str, tuple[str, str]]:
    """{study: (study, row)} of the main question of each study."""
    found: dict[str, tuple[bool, bool, tuple[str, str]]] = {}
    for part in parts:
        rank = (not part.sampled, SHOWS_LESIONS in part.row.scored)
        if part.study.name not in found or rank >= found[part.study.name][:2]:
            found[part.study.name] = (*rank, _row(part))
    return {study: row for study, (_, _, row) in found.items()}


def _row(part: Part) -> tuple[str, str]:
    return part.study.name, part.row.name


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
