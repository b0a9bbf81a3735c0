"""A real scan without a truth: how well held-out samples are predicted.

    python bench/raw.py SCAN.npy [--prior lgg] [--modality T1] [--save PNG]

A tenth of the samples outside the calibration centre is held out. An image is reconstructed from
the rest, and its prediction of the held-out samples is compared with them: ‖y − A x‖ over ‖y‖.
CG-SENSE and L1-wavelet, both complex, have the settings that are best on these very samples, which
favours them.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from any2all_app.trust import on_scan, scan_of, with_scan
from any2all_core import load_prior, make_sampler, reconstruct
from any2all_mri import KSpace
from any2all_mri.held_out import HeldOut
from any2all_operators import BlockDiagonal
from PIL import Image


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("scan", type=Path)
    arguments.add_argument("--prior", default="lgg")
    arguments.add_argument("--modality", default="T1")
    arguments.add_argument("--turn", type=int, default=0)
    arguments.add_argument("--draws", type=int, default=4)
    arguments.add_argument("--save", type=Path)
    options = arguments.parse_args()
    prior = load_prior(options.prior)
    place = prior.modalities.index(options.modality)
    images = {}
    for phase in ("smooth", "rough"):
        builder = KSpace(turn=options.turn, phase=phase)
        measured = builder.read(options.scan, *prior.settings.image_size)
        scan = scan_of(measured.operator)
        assert scan is not None
        held_out = HeldOut.of(scan, measured.data)
        assert held_out is not None
        parts = held_out
        kept = with_scan(measured.operator, parts.kept)
        block, data = BlockDiagonal({options.modality: kept}), parts.kept_data
        draws = reconstruct(
            prior, block, {options.modality: data}, make_sampler("mds"), draws=options.draws
        )[:, :, place]
        seen = [on_scan(kept, data, draw) for draw in draws]
        images[f"MDS, {phase} phase"] = seen[0]
        images[f"MDS, {phase} phase, mean of {options.draws}"] = torch.stack(seen).mean(0)
        if phase == "smooth":
            wavelet = parts.l1_wavelet()
            ways = parts.least_squares(), parts.least_squares(complex_image=False)
            images = {
                "CG-SENSE, complex": ways[0].image,
                "least squares, real": ways[1].image,
                "L1-wavelet, complex": wavelet.image,
                **images,
            }
    best = min((ways[0], wavelet), key=lambda way: way.error)
    share = parts.share(seen[0], best.image)
    images[f"{share:.0%} MDS, {1 - share:.0%} {best.method}"] = torch.lerp(
        best.image, seen[0], share
    )
    print(f"{'noise alone':28}{parts.noise:8.3f}")
    for name, image in images.items():
        print(f"{name:28}{parts.error(image):8.3f}")
    if options.save:
        sheet = torch.cat([image[0].abs() for image in images.values()], 1).clamp(0, 1)
        Image.fromarray((255 * sheet).byte().numpy()).save(options.save)


if __name__ == "__main__":
    main()
