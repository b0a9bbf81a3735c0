"""Unconditional draws of whole stacks: do they look like real ones, and are they copies?

The Fréchet distance on features without weights (``frechet``) compares sets of equal size. Draws,
held-out people, and the other half of the training people are each compared with one half of the
training people. The nearest neighbour is the least root mean square difference in [0, 1] of a stack
to any training slice or its mirror image. Copies would be nearer to the training slices than
held-out people are. If the weights of a network are at hand, its distances are computed for each
modality, also between sets of equal size.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from any2all_app.measurement import Trained
from any2all_app.observer import SILENT, Count, Observer
from any2all_app.preview import contact_sheet
from any2all_core.reconstruct import solve
from any2all_core.sampler import Solver
from any2all_operators import BlockDiagonal, UserError
from numpy.typing import NDArray
from torch import Tensor

from any2all_eval.frechet import Axes, features, frechet
from any2all_eval.metrics import SetDistance
from any2all_eval.parts import slug, write_npz
from any2all_eval.patients import ALL, People, Slices, evenly, has_all, read_patient
from any2all_eval.solvers import Solvers
from any2all_eval.study import Study

DRAWS = "draws"
ROUNDS = 10
"""Number of random sets of slices over which the distances are averaged."""
BATCH, LEAST = 16, 4
"""Draws per file. With fewer than LEAST draws, the covariance is too uncertain."""
NETWORK_SLICES = 4
"""Slices of each training person, for distances by a network."""


@dataclass(frozen=True)
class Generation:
    """Figures of the draws; distances are means, and ``nearest_*`` is (least, 5 %, median).

    ``by_network`` is {"FID, T1": distances of (the other half, held-out people, draws)} to one
    half.
    """

    draws: int
    slices: int
    frechet_draws: float
    frechet_held_out: float
    frechet_halves: float
    nearest_draws: tuple[float, float, float]
    nearest_held_out: tuple[float, float, float]
    nearer_than_any_held_out: int
    by_network: dict[str, tuple[float, float, float]] = field(default_factory=dict)


def check(
    studies: Sequence[Study],
    people: People,
    prior: Trained,
    *,
    group: str,
    held_out: Mapping[str, str],
    slices: Slices,
) -> None:
    """Raise UserError if a study of unconditional draws can't be done."""
    for study in studies:
        unknown = [not row.known for row in study.rows]
        if not any(unknown):
            continue
        if not all(unknown):
            raise UserError(
                f"study {study.name}: some rows have no input; put these into a study of their own"
            )
        if study.draws < LEAST:
            raise UserError(f"study {study.name}: draws = {study.draws}, expected {LEAST} or more")
        train = people.groups.get("train", {})
        if len(list(itertools.islice((p for p in train.values() if has_all(p, prior)), 2))) < 2:
            raise UserError(
                f"study {study.name}: draws are compared with two people of train who have every "
                "modality, but there are fewer; prepare a cohort with more"
            )
        if (
            sum(len(stacks) for stacks in itertools.islice(stacks_of(held_out, prior, slices), 2))
            < 2
        ):
            raise UserError(
                f"study {study.name}: draws are compared with two or more slices of {group}; "
                "give more --slices or --patients, or prepare a cohort with more"
            )


def generate(
    studies: Sequence[Study],
    solvers: Solvers,
    people: People,
    *,
    held_out: Mapping[str, str],
    slices: Slices,
    output: Path,
    distances: Sequence[SetDistance] = (),
    observer: Observer = SILENT,
) -> dict[str, Generation]:
    """{row: figures} of the rows without any input, compared with all people of train.

    ``held_out`` is {name: path} of other people, of whom ``slices`` are used. The draws are kept in
    OUTPUT/draws/<study>/<sampler>, BATCH in a file, with a contact sheet of the first.
    """
    found = {}
    prior = solvers.frame
    for study, sampler in ((s, text) for s in studies for text in s.samplers):
        for row in study.rows:
            asked = sampler in study.samplers_of(row)
            if asked and not row.known and solvers.can(sampler, row, BlockDiagonal({})):
                folder = output / DRAWS / study.name / slug(sampler)
                draws = drawn(
                    solvers(sampler), prior, study.draws, folder=folder, observer=observer
                )
                sheet = contact_sheet(draws[:BATCH], prior.modalities)
                sheet.save(folder / "sheet.png", optimize=True)
                name = f"{study.name}: {row.name} ({sampler})"
                train = stacks_of(people.groups["train"], prior)
                others = stacks_of(held_out, prior, slices)
                found[name] = judge(
                    draws, train, others, modalities=prior.modalities, distances=distances
                )
    return found


def drawn(
    solver: Solver, prior: Trained, count: int, *, folder: Path, observer: Observer
) -> Tensor:
    """Unconditional draws (count, M, H, W)."""
    folder.mkdir(parents=True, exist_ok=True)
    shape = (1, *prior.settings.image_size)
    paths = {first: folder / f"{first:05d}.npz" for first in range(0, count, BATCH)}
    left = {first: path for first, path in paths.items() if not path.exists()}
    called = Count(observer, "drawing, network calls", solver.steps * len(left))
    for first, path in left.items():
        number = min(BATCH, count - first)
        made = solve(
            solver,
            BlockDiagonal({}),
            {},
            shape=shape,
            draws=number if solver.random else 1,
            batch_size=BATCH,
            seed=first,
            progress=called,
        )
        # whoever has one answer only gives it each time
        write_npz(path, {"draws": made[:, 0].expand(number, -1, -1, -1).half().numpy()})
    stacks = []
    for path in paths.values():
        with np.load(path) as kept:
            stacks.append(torch.from_numpy(kept["draws"]).float())
    return torch.cat(stacks)


def judge(
    draws: Tensor,
    train: Iterable[Tensor],
    held_out: Iterable[Tensor],
    *,
    modalities: Sequence[str] = (),
    distances: Sequence[SetDistance] = (),
) -> Generation:
    """Compare draws (N, M, H, W) with the slices of each training person and of held-out people."""
    others = torch.cat([torch.zeros(0, *draws.shape[1:]), *held_out])
    wanted = torch.cat([draws, others])
    best = torch.full((len(wanted),), torch.inf)
    each, kept = [], []
    for stacks in train:  # a person at a time, as all are too many to hold
        best = torch.minimum(best, nearest(wanted, stacks))
        each.append(features(stacks))
        if distances:
            kept.append(stacks[evenly(len(stacks), NETWORK_SLICES)])
    axes = Axes(np.concatenate(each))
    random = np.random.default_rng(0)
    order = random.permutation(len(each))
    halves = [np.concatenate([axes(each[i]) for i in order[k::2]]) for k in range(2)]
    sets = [*halves, axes(features(draws)), axes(features(others))]
    count = min(map(len, sets))
    rounds = []
    for _ in range(ROUNDS):
        a, *rest = (s[random.permutation(len(s))[:count]] for s in sets)
        rounds.append([frechet(b, a) for b in rest])
    between, of_draws, of_others = np.mean(rounds, 0)
    by_network = dict[str, tuple[float, float, float]]()
    if distances:
        sides = [torch.cat([kept[i] for i in order[k::2]]) for k in range(2)]
        sizes = min(map(len, (*sides, others, draws)))
        real, *compared = (x[evenly(len(x), sizes)] for x in (*sides, others, draws))
        named = list(enumerate(modalities)) if sizes > 1 else []
        for distance, (m, modality) in itertools.product(distances, named):
            half, out, ours = (distance(x[:, m], real[:, m]) for x in compared)
            by_network |= {f"{k}, {modality}": (half[k], out[k], ours[k]) for k in half}
    copies, people = best[: len(draws)].numpy(), best[len(draws) :].numpy()
    return Generation(
        len(draws),
        count,
        float(of_draws),
        float(of_others),
        float(between),
        quantiles(copies),
        quantiles(people),
        int((copies < people.min()).sum()),
        by_network,
    )


def nearest(stacks: Tensor, train: Tensor) -> Tensor:
    """The least root mean square difference of each stack to a training slice or its mirror."""
    both = torch.cat([train, train.flip(-1)]).flatten(1)
    return torch.cdist(stacks.flatten(1), both).amin(1) / both.shape[1] ** 0.5


def stacks_of(people: Mapping[str, str], prior: Trained, slices: Slices = ALL) -> Iterator[Tensor]:
    """The slices (B, M, H, W) of each of {name: path} who has every modality."""
    for name, path in people.items():
        patient = read_patient(path, prior, name, slices)
        if patient is not None and patient.places:
            yield patient.stack


def quantiles(values: NDArray[np.float32]) -> tuple[float, float, float]:
    least, low, middle = (float(np.quantile(values, q)) for q in (0, 0.05, 0.5))
    return least, low, middle
