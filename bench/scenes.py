"""What a prior makes of a few mixes of clean images, k-space and missing ones, in short.

    python bench/scenes.py --prior virtual --data people [--group val] [--patients 8]

The middle slice of each patient of a cohort; FLAIR's k-space has R = 4, 8 coils, 8 calibration
lines and noise std 0.01. One answer each by a sampler's defaults; PSNR in dB / SSIM of every image
that is not given clean, means over patients. The last lines are means of four draws of ``mcs``,
with the draws' standard deviation over the error of their mean (right: 1), where the prior has a
noise level for each modality.
"""

from __future__ import annotations

import argparse

import torch
from any2all_core import DiffusionPrior, load_prior, make_sampler, reconstruct, simulate
from any2all_data import KSpace
from any2all_data.metrics import psnr, ssim
from any2all_data.store import CohortStore
from any2all_operators import BlockDiagonal, Identity
from torch import Tensor

SCENES = (
    (("T1",), (), "mds", 1),
    (("T1",), ("FLAIR",), "mds", 1),
    ((), ("FLAIR",), "mds", 1),
    (("T1",), (), "mean", 1),
    (("T1", "FLAIR"), (), "mean", 1),
    (("T1",), (), "mcs", 4),
    (("T1",), ("FLAIR",), "mcs", 4),
)
"""Clean, measured, sampler and draws."""


def spread_over_error(draws: Tensor, truth: Tensor) -> float:
    """Root mean squares of the draws' standard deviation over that of their mean's error.

    (D, B, H, W) and (B, H, W). The error is less by what so few draws leave: 1 for right draws.
    """
    error = (draws.mean(0) - truth).square() * len(draws) / (len(draws) + 1)
    return float((draws.var(0).mean() / error.mean()).sqrt())


def scene(
    prior: DiffusionPrior,
    stack: Tensor,
    clean: tuple[str, ...],
    measured: tuple[str, ...],
    sampler: str,
    count: int,
) -> list[str]:
    """A cell for each modality."""
    names = prior.modalities
    scan = KSpace(acceleration=4, coils=8, acs_lines=8, noise_std=0.01).build(*stack.shape[2:])
    operator = BlockDiagonal({m: Identity() if m in clean else scan for m in clean + measured})
    data = simulate(operator, stack[:, [names.index(m) for m in operator.modalities]], seed=1)
    draws = reconstruct(prior, operator, data, make_sampler(sampler), draws=count, seed=1)
    cells = []
    for m, name in enumerate(names):
        image, truth = draws.mean(0)[:, m], stack[:, m]
        cell = f"{float(psnr(image, truth).mean()):.2f} / {float(ssim(image, truth).mean()):.3f}"
        if count > 1:
            cell += f" ({spread_over_error(draws[:, :, m], truth):.2f})"
        cells.append("–" if name in clean else cell)
    return cells


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--prior", default="virtual")
    arguments.add_argument("--data", required=True, help="a cohort")
    arguments.add_argument("--group", default="val")
    arguments.add_argument("--patients", type=int, default=8)
    options = arguments.parse_args()
    prior, store = load_prior(options.prior), CohortStore.open(options.data)
    names = prior.modalities
    people = list(store.having(names, options.group).items())[: options.patients]
    slices = [store.slices({patient: entry}, names) for patient, entry in people]
    stack = torch.cat([s[len(s) // 2 :][:1] for s in slices])
    print(f"| clean | k-space | sampler | {' | '.join(names)} |")
    print("|---" * (len(names) + 3) + "|")
    for clean, measured, sampler, draws in SCENES:
        if sampler != "mds" and prior.levels == "shared":
            continue
        cells = scene(prior, stack, clean, measured, sampler, draws)
        label = f"`{sampler}`" + (f", mean of {draws}" if draws > 1 else "")
        print(
            f"| {' + '.join(clean)} | {' + '.join(measured)} | {label} | {' | '.join(cells)} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
