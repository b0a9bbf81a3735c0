"""Slices next to each other: how much they flicker, by how far the noise is alike through them.

    python bench/volumes.py --data LGG/val [--prior lgg] [--patients 4] [--slices 12]

SLICES consecutive slices in the middle of each patient, one draw of a volume. The through-plane
error is the mean over the head of |(x̂_{k+1} − x̂_k) − (x_{k+1} − x_k)|, as a share of the mean
|x_{k+1} − x_k| of the truth: 1 is what an image gets that does not change through the slices, more
is flicker. PSNR and SSIM of each slice say what that costs in-plane. Means over patients.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from any2all_app.grammar import sampler_of
from any2all_core import load_prior, reconstruct
from any2all_eval.patients import HEAD
from any2all_operators import BlockDiagonal, Identity
from reconstruction import ROWS, SCAN, k_space, read, score
from torch import Tensor


def through_plane_error(image: Tensor, truth: Tensor, head: Tensor) -> float:
    """image, truth, head: (B, H, W), neighbours in order."""
    inside = head[1:] & head[:-1]
    step = truth.diff(dim=0)
    return float((image.diff(dim=0) - step).abs()[inside].mean() / step.abs()[inside].mean())


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--data", type=Path, required=True)
    arguments.add_argument("--prior", default="lgg")
    arguments.add_argument("--patients", type=int, default=4)
    arguments.add_argument("--slices", type=int, default=12)
    arguments.add_argument("--rows", default="1,4", help="of reconstruction.py, from 0")
    arguments.add_argument("--through", default="0,1,2,4", help="in slices")
    arguments.add_argument("--sampler", default="mds", help="NAME[:OPTION=VALUE...]")
    options = arguments.parse_args()
    prior = load_prior(options.prior)
    scan = SCAN.build(*prior.settings.image_size)
    patients = read(options.data, prior.modalities, 1, options.patients)
    sampler = sampler_of(options.sampler)
    print(f"| input | image | alike over | through-plane error | PSNR | SSIM |\n|{'---|' * 6}")
    for row in (ROWS[int(n)] for n in options.rows.split(",")):
        blocks = {m: scan if m in row.measured else Identity() for m in row.measured + row.clean}
        for through in (float(t) for t in options.through.split(",")):
            found: dict[str, list[tuple[float, float, float]]] = {m: [] for m in row.scored}
            for patient in patients:
                first = (len(patient.stack) - options.slices) // 2
                middle = slice(max(first, 0), max(first, 0) + options.slices)
                truth = dict(zip(prior.modalities, patient.stack[middle].unbind(1), strict=True))
                head = patient.stack[middle].mean(1) > HEAD
                known = k_space(patient, prior.modalities, scan)
                data = {m: known[m][middle] if m in row.measured else truth[m] for m in blocks}
                stack = reconstruct(
                    prior, BlockDiagonal(blocks), data, sampler, seed=patient.seed, through=through
                )[0]
                for m in row.scored:
                    image = stack[:, prior.modalities.index(m)]
                    quality = score(image, truth[m])
                    error = through_plane_error(image, truth[m], head)
                    found[m].append((error, quality[0], quality[1]))
            for m, figures in found.items():
                error, psnr, ssim = np.mean(figures, 0)
                print(
                    f"| {row.name} | {m} | {through:g} slices | {error:.3f} | {psnr:.2f} | "
                    f"{ssim:.3f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
