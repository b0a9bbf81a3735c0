"""A real scan without a truth: how well samples that were held out are predicted.

    python bench/raw.py SCAN.npy [--prior lgg] [--modality T1] [--held-out 0.1] [--save PNG]

A random part of the samples outside the calibration centre is left out of the file. Coil maps,
phase, noise and scale are found from the rest, an image is made from the rest, and what it says of
the samples left out is compared with them: ‖y − A x‖ over ‖y‖, and over the noise. λ of L1-wavelet
is the best of LAMBDAS on these very samples, in its favour. Without prior is the regularised
least-squares image.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from any2all_core import load_prior, reconstruct
from any2all_data import KSpace
from any2all_data.calibration import calibration_size
from any2all_operators import BlockDiagonal, FieldOfView, Measured, SenseFourier
from any2all_operators.field_of_view import fit
from PIL import Image
from torch import Tensor

LAMBDAS = (0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032)
LEAST_SQUARES_WEIGHTS = (1.0, 10.0, 100.0, 1000.0)


def sense(measured: Measured) -> SenseFourier:
    operator = measured.operator
    scan = operator.scan if isinstance(operator, FieldOfView) else operator
    assert isinstance(scan, SenseFourier)
    return scan


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("scan", type=Path)
    arguments.add_argument("--prior", default="lgg")
    arguments.add_argument("--modality", default="T1")
    arguments.add_argument("--turn", type=int, default=0)
    arguments.add_argument("--held-out", type=float, default=0.1)
    arguments.add_argument("--draws", type=int, default=4)
    arguments.add_argument("--save", type=Path)
    options = arguments.parse_args()
    prior = load_prior(options.prior)
    size, recipe = prior.settings.image_size, KSpace(turn=options.turn)

    y = np.load(options.scan)
    sampled = np.abs(y).sum(0) > 0
    centre = calibration_size(sampled)
    free = sampled.copy()
    top, left = (n // 2 - c // 2 for n, c in zip(sampled.shape, centre, strict=True))
    free[top : top + centre[0], left : left + centre[1]] = False
    held = free & (np.random.default_rng(0).random(free.shape) < options.held_out)
    with tempfile.TemporaryDirectory() as folder:
        for name, part in {"kept": ~held, "held": held}.items():
            np.save(Path(folder) / f"{name}.npy", y * part)
            np.save(Path(folder) / f"{name}_mask.npy", (sampled & part).astype(np.uint8))
        kept = recipe.read(Path(folder) / "kept.npy", *size)
        whole = recipe.read(options.scan, *size)
    scan = sense(kept)
    mask = sense(whole).mask - scan.mask
    target = whole.data * (whole.scale / kept.scale) * mask
    check = replace(scan, mask=mask)
    noise = float(check.data_size(target)) ** 0.5 * scan.noise_std
    print(
        f"{int(mask.sum())} of {int(sense(whole).mask.sum())} samples held out; "
        f"noise is {noise / float(target.norm()):.3f} of them"
    )
    coils, maps = kept.data[0].numpy(), scan.coil_maps[0].numpy()

    def error(image: Tensor) -> float:
        real, imaginary = torch.view_as_real(image + 0j).float().unbind(-1)
        said = check.forward(real[None]) + 1j * check.forward(imaginary[None])
        return float((said - target).norm())

    def best(ways: list[Callable[[], Tensor]]) -> Tensor:
        return min((way() for way in ways), key=error)

    from sigpy.mri.app import L1WaveletRecon, SenseRecon

    zeros = torch.zeros(1, *maps.shape[1:])
    images = {
        "zero-filled": scan.adjoint(kept.data)[0] * scan.acceleration,
        "CG-SENSE": torch.from_numpy(
            SenseRecon(coils, maps, lamda=0.01, max_iter=30, show_pbar=False).run()
        ),
        "least squares": best(
            [
                lambda w=w: scan.prox(kept.data, zeros, w)[0]  # type: ignore[misc]
                for w in LEAST_SQUARES_WEIGHTS
            ]
        ),
        "L1-wavelet": best(
            [
                lambda w=w: torch.from_numpy(  # type: ignore[misc]
                    L1WaveletRecon(coils, maps, w, max_iter=100, show_pbar=False).run()
                )
                for w in LAMBDAS
            ]
        ),
    }
    block = BlockDiagonal({options.modality: kept.operator})
    draws = reconstruct(prior, block, {options.modality: kept.data}, draws=options.draws)
    ours = fit(draws[:, :, prior.modalities.index(options.modality)], scan.coil_maps.shape[-2:])
    images["MDS"] = ours[0, 0]
    images[f"MDS, mean of {options.draws}"] = ours.mean(0)[0]
    print(f"{'':20}{'of the samples':>16}{'of the noise':>16}")
    for name, image in images.items():
        print(f"{name:20}{error(image) / float(target.norm()):16.3f}{error(image) / noise:16.2f}")
    if options.save:
        sheet = torch.cat([image.abs() for image in images.values()], 1).clamp(0, 1)
        Image.fromarray((255 * sheet).byte().numpy()).save(options.save)


if __name__ == "__main__":
    main()
