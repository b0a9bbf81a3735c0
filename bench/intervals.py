"""Do the draws know what they do not know? Coverage of their 90 % interval on held-out patients.

    python bench/intervals.py --data LGG/val [--prior lgg] [--draws 8] [--slices 1] [--sampler ...]

Of each pixel inside the head the interval is that of the next draw, were the K draws normal:
mean ± c t √(1 + 1/K) std, with t the 95 % point of Student's distribution of K − 1 degrees. Before
calibration c is 1; after it c is the one factor with which 90 % of the pixels of all *other*
patients lie inside (each patient is left out in turn). Where draws are those of the posterior, c is
1 and the coverage 90 %. Means over patients of the share of pixels, and the range over patients.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import numpy as np
from any2all_app.grammar import sampler_of
from any2all_core import load_prior, reconstruct
from any2all_eval.patients import HEAD, evenly
from any2all_operators import BlockDiagonal, Identity
from reconstruction import ROWS, SCAN, k_space, read, score
from scipy.stats import t as student

GOAL = 0.9


def fitted(needed: list[np.ndarray]) -> float:
    """The factor within which GOAL of the pixels lie, every patient counting the same."""
    low, high = 0.0, 1e3
    for _ in range(60):
        middle = (low + high) / 2
        inside = np.mean([(patient <= middle).mean() for patient in needed])
        low, high = (low, middle) if inside >= GOAL else (middle, high)
    return high


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--data", type=Path, required=True)
    arguments.add_argument("--prior", default="lgg")
    arguments.add_argument("--patients", type=int)
    arguments.add_argument("--slices", type=int, default=1, help="of each patient")
    arguments.add_argument("--draws", type=int, default=8)
    arguments.add_argument("--rows", default="1,4", help="of reconstruction.py, from 0")
    arguments.add_argument("--sampler", action="append", help="NAME[:OPTION=VALUE...]")
    options = arguments.parse_args()
    prior = load_prior(options.prior)
    scan = SCAN.build(*prior.settings.image_size)
    patients = read(options.data, prior.modalities, 1, options.patients)
    k = options.draws
    width = float(student.ppf((1 + GOAL) / 2, k - 1)) * math.sqrt(1 + 1 / k)
    columns = ("input", "image", "sampler", "coverage", "factor", "calibrated", "its range")
    print(f"| {' | '.join(columns)} | PSNR of the mean |")
    print("|" + "---|" * 8)
    for row in (ROWS[int(n)] for n in options.rows.split(",")):
        blocks = {m: scan if m in row.measured else Identity() for m in row.measured + row.clean}
        for text in options.sampler or ("mds", "mmps"):
            sampler = sampler_of(text)
            needed: dict[str, list[np.ndarray]] = {m: [] for m in row.scored}
            quality: dict[str, list[float]] = {m: [] for m in row.scored}
            for patient in patients:
                places = evenly(len(patient.stack), options.slices)
                stack = patient.stack[places]
                truth = dict(zip(prior.modalities, stack.unbind(1), strict=True))
                head = stack.mean(1) > HEAD
                known = k_space(patient, prior.modalities, scan)
                data = {m: known[m][places] if m in row.measured else truth[m] for m in blocks}
                draws = reconstruct(
                    prior, BlockDiagonal(blocks), data, sampler, seed=patient.seed, draws=k
                )
                for m in row.scored:
                    images = draws[:, :, prior.modalities.index(m)]
                    mean, std = images.mean(0), images.std(0)
                    factor = (truth[m] - mean).abs() / (width * std).clamp(min=1e-9)
                    needed[m].append(factor[head].numpy())
                    quality[m].append(float(score(mean, truth[m])[0]))
            for m, factors in needed.items():
                before = np.mean([(f <= 1).mean() for f in factors])
                others = [fitted(factors[:p] + factors[p + 1 :]) for p in range(len(factors))]
                after = [(f <= c).mean() for f, c in zip(factors, others, strict=True)]
                print(
                    f"| {row.name} | {m} | `{text}` | {before:.3f} | {min(others):.2f}–"
                    f"{max(others):.2f} | {np.mean(after):.3f} | {min(after):.2f}–{max(after):.2f} "
                    f"| {np.mean(quality[m]):.2f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
