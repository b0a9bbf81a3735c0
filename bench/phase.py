"""The cost of an unknown phase: FLAIR k-space of real patients with a simulated phase.

    python bench/phase.py --data LGG [--phase rough] [--acceleration 8] [--prior lgg] [--every 6]

Each patient's images get their own phase (see ``simulated_phase``). A smooth phase is a polynomial
of second order, with several radians across the head. A rough phase also has noise up to 3/4 of the
resolution, and jumps at the sinuses. There are 8 birdcage coils, 24 calibration lines, and a noise
std of 0.01. MDS then reconstructs FLAIR from its k-space alone with

- known: the true coil maps and phase
- phase estimated: the true coil maps, and a phase estimated from the data
- all estimated: only a raw file; maps, phase, noise and scale are estimated
- blind: the true coil maps, and no phase

They are compared with L1-wavelet on the true coil maps, complex, with the λ that is best for these
very slices.

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
from any2all_eval.metrics import scores
from any2all_eval.patients import Slices, find_people, read_patient
from any2all_mri import KSpace, birdcage_maps
from any2all_mri.held_out import LAMBDAS, l1_wavelet
from any2all_mri.phase import SimulatedPhase, simulated_phase
from any2all_operators import BlockDiagonal, Operator, SenseFourier, equispaced_mask
from torch import Tensor

COILS, NOISE_STD, ACS_LINES = 8, 0.01, 24


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--data", required=True)
    arguments.add_argument("--prior", default="lgg")
    arguments.add_argument("--group", default="test")
    arguments.add_argument("--every", type=int, default=6)
    arguments.add_argument("--limit", type=int, help="only the first patients")
    arguments.add_argument("--phase", choices=("smooth", "rough"), default="smooth")
    arguments.add_argument("--acceleration", type=int, default=4)
    options = arguments.parse_args()
    prior = load_prior(options.prior)
    flair = prior.modalities.index("FLAIR")
    people = find_people(options.data, options.group).groups[options.group]
    height, width = prior.settings.image_size
    maps = birdcage_maps(COILS, height, width)
    mask = equispaced_mask(width, options.acceleration, ACS_LINES)
    scan = SenseFourier(maps, mask, NOISE_STD, complex_image=True)
    found_by: dict[str, list[np.ndarray]] = {}
    for name, path in list(people.items())[: options.limit]:
        patient = read_patient(path, prior, name, Slices(every=options.every))
        if patient is None:
            continue
        head = patient.head

        def score(image: Tensor, truth: Tensor, head: Tensor = head) -> np.ndarray:
            """PSNR and SSIM: (2,), means over slices."""
            values = scores(image, truth, head)
            return np.array([np.mean(values[metric]) for metric in ("psnr", "ssim")])

        truth = patient.stack[:, flair]
        phase = simulated_phase(options.phase, height, width, patient.seed)
        true = SimulatedPhase(scan, phase)
        y = true.measure(truth, [generator(patient.seed, z) for z in range(len(truth))])
        with tempfile.TemporaryDirectory() as folder:
            np.save(Path(folder) / "FLAIR.npy", y.numpy())
            found = KSpace().read(Path(folder) / "FLAIR.npy", height, width)
        turned = maps * torch.polar(torch.ones_like(phase), phase)
        ways: dict[str, tuple[Operator, Tensor]] = {
            "known": (SenseFourier(turned, mask, NOISE_STD), y),
            "phase estimated": (true.estimated(y), y),
            "all estimated": (found.operator, found.data),
            "blind": (SenseFourier(maps, mask, NOISE_STD), y),
        }
        for way, (operator, data) in ways.items():
            x = reconstruct(
                prior, BlockDiagonal({"FLAIR": operator}), {"FLAIR": data}, seed=patient.seed
            )[0, :, flair]
            if way == "all estimated":
                x = x * found.scale
            found_by.setdefault(way, []).append(score(x, truth))
        classical = [score(l1_wavelet(scan, y, w).abs(), truth) for w in LAMBDAS]
        found_by.setdefault("L1-wavelet", []).append(max(classical, key=lambda s: float(s[0])))
        line = "  ".join(f"{way} {s[-1][0]:.2f}" for way, s in found_by.items())
        kind = found.details["phase"].split(":")[0]
        noise = found.operator.noise_std * found.scale
        print(
            f"{patient.name}: {line}  ({kind}, scale {found.scale:.3f}, noise {noise:.4f})",
            flush=True,
        )
    print(f"\n{'':18}{'PSNR':>7}{'SSIM':>8}")
    for way, values in found_by.items():
        mean = np.mean(values, 0)
        print(f"{way:18}{mean[0]:7.2f}{mean[1]:8.3f}")


if __name__ == "__main__":
    main()
