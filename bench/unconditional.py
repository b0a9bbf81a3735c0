"""What a prior draws from nothing, beside real slices: do they look alike, and are they copies?

    python bench/unconditional.py --prior lgg --train LGG/train --held-out LGG/test
    python bench/unconditional.py --prior virtual --train COHORT --sheet docs/draws.png

--train is a folder of patients and --held-out another, or --train is a cohort, whose train and
test patients are taken. A few minutes on two cores: 128 stacks in 100 network calls each.

Fréchet distance: ‖μ − μ'‖² + tr(Σ + Σ' − 2 (ΣΣ')^½) between Gaussians fitted to features that need
no weights, hence **not FID** and comparable only within one table. A stack's features are, for each
modality, the mean on a 4 x 4 grid of its intensity and of the magnitude of four octave bands
(differences of Gaussians), and for each pair of modalities the correlation of their bands; on the
leading 32 principal axes of the real slices, each scaled to unit variance. Every set has as many
slices; halves are of patients. Draws that were real slices would lie as far from a half as the
other half does.

Nearest neighbour: the least root mean square difference of a stack to any training slice, or its
mirror image, in [0, 1]. Copies would lie nearer to the training slices than other people's do.
Source of the distance: Heusel 2017, arXiv 1706.08500, on other features.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from any2all_cli.preview import contact_sheet
from any2all_core import load_prior, make_sampler, reconstruct
from any2all_data.cohort import find_patients, read_slices
from any2all_data.store import CohortStore, is_cohort
from any2all_operators import BlockDiagonal
from rich.progress import Progress
from torch import Tensor

BANDS, CELLS, AXES = 4, 4, 32


def groups(place: str, held_out: str | None, names: Sequence[str]) -> tuple[list[Tensor], Tensor]:
    """Slices (N, M, H, W) of each training patient, and those of all who are held out."""
    if is_cohort(place):
        store = CohortStore.open(place)
        train = [store.slices({p: e}, names) for p, e in store.having(names, "train").items()]
        return train, store.slices(store.having(names, "test"), names)
    assert held_out, "--held-out FOLDER goes with a folder of patients"
    train = [read_slices([p], names) for p in find_patients(Path(place))]
    return train, read_slices(find_patients(Path(held_out)), names)


def blurred(x: Tensor, sigma: float) -> Tensor:
    """x (N, M, H, W) with a Gaussian of ``sigma`` pixels."""
    radius = round(3 * sigma)
    taps = torch.exp(-(torch.arange(-radius, radius + 1.0) ** 2) / (2 * sigma**2))
    taps = (taps / taps.sum()).expand(x.shape[1], 1, -1)
    x = F.conv2d(x, taps[..., None], padding=(radius, 0), groups=x.shape[1])
    return F.conv2d(x, taps[:, :, None], padding=(0, radius), groups=x.shape[1])


def features(stacks: Tensor) -> np.ndarray:
    """(N, M, H, W) in [0, 1] to (N, features)."""
    parts = []
    for x in stacks.split(64):
        levels = [x, *(blurred(x, 2.0**k) for k in range(BANDS))]
        bands = [a - b for a, b in itertools.pairwise(levels)]
        cells = [F.adaptive_avg_pool2d(a, CELLS).flatten(1) for a in (x, *map(torch.abs, bands))]
        pairs = torch.triu_indices(x.shape[1], x.shape[1], 1)
        for band in bands:
            unit = F.normalize(band.flatten(2) - band.mean((2, 3))[..., None], dim=2)
            cells.append((unit @ unit.mT)[:, pairs[0], pairs[1]])
        parts.append(torch.cat(cells, 1))
    return torch.cat(parts).double().numpy()


def frechet(a: np.ndarray, b: np.ndarray) -> float:
    """Between Gaussians fitted to features (N, d)."""
    gap = a.mean(0) - b.mean(0)
    covariances = np.cov(a.T), np.cov(b.T)
    # the eigenvalues of a product of two covariances are real and not negative
    roots = np.sqrt(np.linalg.eigvals(covariances[0] @ covariances[1]).real.clip(min=0))
    return float(gap @ gap + sum(np.trace(c) for c in covariances) - 2 * roots.sum())


def nearest(stacks: Tensor, train: Tensor) -> np.ndarray:
    """The least root mean square difference of each stack to a training slice or its mirror."""
    both = torch.cat([train, train.flip(-1)]).flatten(1)
    squares = both.square().sum(1)
    best = []
    for x in stacks.flatten(1).split(32):
        gaps = x.square().sum(1)[:, None] + squares - 2 * x @ both.mT
        best.append(gaps.amin(1).clamp(min=0) / x.shape[1])
    return torch.cat(best).sqrt().numpy()


def some(slices: Tensor, count: int, random: np.random.Generator) -> Tensor:
    return slices[torch.from_numpy(random.permutation(len(slices))[:count])]


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--prior", required=True)
    arguments.add_argument("--train", required=True)
    arguments.add_argument("--held-out")
    arguments.add_argument("--draws", type=int, default=128)
    arguments.add_argument("--steps", type=int, default=100)
    arguments.add_argument("--spacing", default="sigma")
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--sheet", type=Path, help="PNG of the first 16 draws")
    arguments.add_argument("--json", type=Path)
    options = arguments.parse_args()
    prior = load_prior(options.prior)
    train, held_out = groups(options.train, options.held_out, prior.modalities)
    sampler = make_sampler("ddpm", {"steps": str(options.steps), "spacing": options.spacing})
    shape = (1, *prior.settings.image_size)
    batches = -(-options.draws // 16)
    with Progress() as bar:
        task = bar.add_task("drawing", total=batches * options.steps)
        draws = reconstruct(
            prior,
            BlockDiagonal({}),
            {},
            sampler,
            shape=shape,
            draws=options.draws,
            batch_size=16,
            seed=options.seed,
            progress=lambda: bar.advance(task),
        )[:, 0]
    if options.sheet:
        contact_sheet(draws[:16], prior.modalities).save(options.sheet, optimize=True)
    random = np.random.default_rng(0)
    order = random.permutation(len(train))
    halves = [torch.cat([train[i] for i in order[k::2]]) for k in range(2)]
    count = min(options.draws, *map(len, halves), len(held_out))
    everything = torch.cat(train)
    of_all = features(everything)
    scale = of_all.std(0) + 1e-9
    _, lengths, axes = np.linalg.svd((of_all - of_all.mean(0)) / scale, full_matrices=False)
    to_axes = axes[:AXES].T / lengths[:AXES] * len(of_all) ** 0.5

    def placed(stacks: Tensor) -> np.ndarray:
        return (features(stacks) - of_all.mean(0)) / scale @ to_axes

    rounds = [
        (frechet(a, b), frechet(placed(some(draws, count, random)), a), frechet(h, a))
        for a, b, h in (
            [placed(some(s, count, random)) for s in (*halves, held_out)] for _ in range(10)
        )
    ]
    between, drawn, other = np.mean(rounds, 0)
    copies, people = nearest(draws, everything), nearest(held_out, everything)
    figures = {
        "prior": options.prior,
        "draws": len(draws),
        "steps": options.steps,
        "slices_a_set": count,
        "frechet_halves": between,
        "frechet_held_out": other,
        "frechet_draws": drawn,
        "nearest_draws": {q: float(np.quantile(copies, q / 100)) for q in (0, 5, 50)},
        "nearest_held_out": {q: float(np.quantile(people, q / 100)) for q in (0, 5, 50)},
        "draws_nearer_than_any_held_out": int((copies < people.min()).sum()),
    }
    print(f"| {options.prior}, {count} slices a set | Fréchet distance |\n|---|---|")
    print(f"| one half of the training patients to the other | {between:.2f} |")
    print(f"| patients held out to one half | {other:.2f} |")
    print(f"| draws to one half | {drawn:.2f} |\n")
    print("| nearest training slice (RMS, least / 5 % / median) | |\n|---|---|")
    for what, found in (("draws", copies), ("slices of patients held out", people)):
        least, low, middle = np.quantile(found, [0, 0.05, 0.5])
        print(f"| {len(found)} {what} | {least:.4f} / {low:.4f} / {middle:.4f} |")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
