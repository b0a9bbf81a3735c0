"""What it costs not to know the phase of a scan: FLAIR k-space of real patients, phase simulated.

    python bench/phase.py --data LGG [--prior lgg] [--group test] [--every 6]

Images get a smooth phase (a random polynomial of second order, several radians across the head) and
8 birdcage coils; R = 4, 24 calibration lines, noise std 0.01. MDS then reconstructs FLAIR from its
k-space alone with

- known: the true coil maps and phase
- phase estimated: the true coil maps, the phase found from the data
- all estimated: a raw file and nothing else; maps, phase, noise and scale are found
- blind: the true coil maps, no phase

Every figure is the mean over patients of the mean over their slices; PSNR has data range 1.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch
from any2all_core import load_prior, reconstruct
from any2all_core.noise import generator
from any2all_data import KSpace, birdcage_maps
from any2all_data.calibration import calibration_size, with_fine_phase, with_phase
from any2all_operators import BlockDiagonal, Operator, SenseFourier, equispaced_mask
from reconstruction import read, score
from torch import Tensor

COILS, NOISE_STD, MASK = 8, 0.01, {"acceleration": 4, "acs_lines": 24}


def smooth_phase(height: int, width: int, seed: int) -> Tensor:
    """A random polynomial of second order in [−1, 1]², (H, W) in radians."""
    y, x = torch.meshgrid(
        torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij"
    )
    terms = torch.stack([x, y, x * y, x**2, y**2])
    return torch.einsum("k,khw->hw", 2 * torch.randn(5, generator=generator(seed)), terms)


def parser(description: str) -> argparse.ArgumentParser:
    """Which patients, and which prior."""
    arguments = argparse.ArgumentParser(description=description)
    arguments.add_argument("--data", type=Path, required=True)
    arguments.add_argument("--prior", default="lgg")
    arguments.add_argument("--group", default="test")
    arguments.add_argument("--every", type=int, default=6)
    arguments.add_argument("--limit", type=int, help="only the first patients")
    return arguments


def main() -> None:
    options = parser(__doc__.splitlines()[0]).parse_args()
    prior = load_prior(options.prior)
    flair = prior.modalities.index("FLAIR")
    patients = read(options.data / options.group, prior.modalities, options.every, options.limit)
    height, width = prior.settings.image_size
    maps, mask = birdcage_maps(COILS, height, width), equispaced_mask(width, **MASK)
    scores: dict[str, list[np.ndarray]] = {}
    for patient in patients:
        truth = patient.stack[:, flair]
        phase = torch.exp(1j * smooth_phase(height, width, patient.seed))
        known = SenseFourier(maps * phase, mask, NOISE_STD)
        y = known.measure(truth, [generator(patient.seed, z) for z in range(len(truth))])
        centre = calibration_size(mask.expand(height, width).numpy())
        estimated = np.stack(
            [with_fine_phase(with_phase(maps.numpy(), k, centre), k) for k in y.numpy()]
        )
        with tempfile.TemporaryDirectory() as folder:
            np.save(Path(folder) / "FLAIR.npy", y.numpy())
            found = KSpace().read(Path(folder) / "FLAIR.npy", height, width)
        ways: dict[str, tuple[Operator, Tensor]] = {
            "known": (known, y),
            "phase estimated": (SenseFourier(torch.from_numpy(estimated), mask, NOISE_STD), y),
            "all estimated": (found.operator, found.data),
            "blind": (SenseFourier(maps, mask, NOISE_STD), y),
        }
        for name, (operator, data) in ways.items():
            x = reconstruct(
                prior, BlockDiagonal({"FLAIR": operator}), {"FLAIR": data}, seed=patient.seed
            )[0, :, flair]
            if name == "all estimated":
                x = x * found.scale
            scores.setdefault(name, []).append(score(x, truth))
        line = "  ".join(f"{name} {s[-1][0]:.2f}" for name, s in scores.items())
        print(
            f"patient {patient.seed}: {line}  (scale {found.scale:.3f}, "
            f"noise {found.operator.noise_std * found.scale:.4f})",
            flush=True,
        )
    print(f"\n{'':18}{'PSNR':>7}{'SSIM':>8}")
    for name, values in scores.items():
        mean = np.mean(values, 0)
        print(f"{name:18}{mean[0]:7.2f}{mean[1]:8.3f}")


if __name__ == "__main__":
    main()
