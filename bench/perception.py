"""How EfficientNet's distances rank changes whose order is known: a table for docs/evaluate.md.

    python bench/perception.py [--modality FLAIR] [--people 4]

Virtual people are drawn. Half of them are changed, and half serve as other people. Each change of
16 slices of a person is compared with the unchanged slices.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import numpy as np
import torch
from any2all_core.stack_format import Range
from any2all_data.metrics import psnr
from any2all_eval.documents import markdown_table
from any2all_eval.frechet import frechet
from any2all_eval.perception import COLUMNS, DISTANCE, FRECHET, KERNEL, load_perception
from any2all_mri.intensity import mr_scale
from any2all_virtual import virtual_person
from scipy import ndimage
from torch import Tensor

FIRST, COUNT = 900, 16
"""The first person's seed, and slices of each person, every second one."""
SPACING, SHAPE = (2.0, 2.0, 3.0), (96, 112, 56)
WINDOW = {"CT": Range(-110.0, 200.0), "PET": Range(0.0, 10.0)}


def volume(seed: int, modality: str) -> Tensor:
    """(Z, H, W) in [0, 1] of a virtual person."""
    image = virtual_person(seed, SPACING, SHAPE).images[modality]
    array = np.asarray(image.dataobj, np.float32).transpose(2, 1, 0)
    scale = WINDOW.get(modality) or Range(0.0, mr_scale(array))
    return torch.from_numpy(scale.normalise(array))


def blurred(image: Tensor, sigma: float) -> Tensor:
    """A Gaussian blur with ``sigma`` pixels in each slice."""
    return torch.from_numpy(ndimage.gaussian_filter(image.numpy(), (0, sigma, sigma)))


def changes(own: list[Tensor], others: list[Tensor]) -> Iterator[tuple[str, list[Tensor]]]:
    """(name of the change, the changed slices of each person)."""
    start = (SHAPE[2] - 2 * COUNT) // 2

    def shown(volumes: list[Tensor], on: int = 0) -> list[Tensor]:
        return [v[start + on : start + on + 2 * COUNT : 2] for v in volumes]

    truth = shown(own)
    random = torch.Generator().manual_seed(0)
    yield "none", truth
    for sigma in (0.01, 0.02, 0.05, 0.1):
        noise = [sigma * torch.randn(x.shape, generator=random) for x in truth]
        yield f"noise, σ {sigma:g} of [0, 1]", [x + n for x, n in zip(truth, noise, strict=True)]
    for width in (0.5, 1.0, 2.0, 4.0):
        yield f"blur, σ {width:g} pixels", [blurred(x, width) for x in truth]
    for pixels in (1, 4):
        yield f"shift, {pixels} pixels", [x.roll(pixels, 2) for x in truth]
    for on in (1, 3):
        yield f"slice + {on}", shown(own, on)
    yield "another person", shown(others)
    yield "mean of the other people", [torch.stack(shown(others)).mean(0)] * len(own)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--modality", default="FLAIR")
    parser.add_argument("--people", type=int, default=4)
    options = parser.parse_args()
    torch.set_num_threads(1)
    network = load_perception()
    seeds = range(FIRST, FIRST + 2 * options.people)
    volumes = [volume(seed, options.modality) for seed in seeds]
    own, others = volumes[: options.people], volumes[options.people :]
    rows, truth, real = [], list[Tensor](), None
    for name, images in changes(own, others):
        images = [x.clamp(0, 1) for x in images]
        truth = truth or images
        pooled = network.pooled(torch.cat(images)).numpy()
        real = pooled if real is None else real
        pairs = [network.compare(u, x) for u, x in zip(images, truth, strict=True)]
        distance, kernel = (
            float(torch.cat([pair[m] for pair in pairs]).mean()) for m in (DISTANCE, KERNEL)
        )
        sets = kernel, frechet(pooled, real)
        decibels = float(psnr(torch.cat(images), torch.cat(truth)).mean())
        found = [f"{distance:.3f}", *(f"{abs(v) if abs(v) < 0.05 else v:.1f}" for v in sets)]
        rows.append([name, "" if name == "none" else f"{decibels:.1f}", *found])
    header = ["change", "PSNR (dB)", COLUMNS[DISTANCE][0], COLUMNS[KERNEL][0], FRECHET]
    print("\n".join(markdown_table(header, rows)))


if __name__ == "__main__":
    main()
