"""Quality against time: our samplers beside deepinv's DiffPIR and DPS with the same prior, one run.

    pip install deepinv
    python bench/frontier.py --data LGG/test [--prior lgg] [--patients 4] [--slices 1] [--plot PNG]
    python bench/frontier.py --data LGG/val --tune       # what deepinv's options were chosen by

FLAIR from its k-space (R = 4, 8 coils, as in reconstruction.py) with T1 clean; the same data,
network, batch and threads for all, which take their turn at each patient. How deepinv is given the
prior: any2all_eval.theirs. PSNR and SSIM are means over patients, seconds those of a slice.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from any2all_app.grammar import sampler_of
from any2all_core import load_prior, reconstruct
from any2all_eval.patients import evenly
from any2all_operators import BlockDiagonal, Identity
from reconstruction import SCAN, k_space, read, score

OURS: tuple[str, ...] = ("mds:steps=5", "mds:steps=10", "mds", "mds:steps=50", "mps")
OURS += ("mds:steps=150:start=20:average=0", "mmps:steps=20:iterations=3")
THEIRS: tuple[str, ...] = (
    "deepinv-diffpir:steps=10",
    "deepinv-diffpir:steps=20",
    "deepinv-diffpir",
)
THEIRS += ("deepinv-dps",)
GRID = {
    "deepinv-diffpir": [
        f"lambda_={weight}:zeta={zeta}" for weight in (1, 2, 3, 7, 25) for zeta in (0.3, 1)
    ],
    "deepinv-dps": [
        *(f"weight={weight}" for weight in (30, 100, 300, 1000, 3000)),
        *(f"guidance=annealed:weight={weight}" for weight in (0.3, 1, 3)),
    ],
}


def tuning() -> Iterator[str]:
    for name, grid in GRID.items():
        for options in grid:
            yield f"{name}:{options}"


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--data", type=Path, required=True)
    arguments.add_argument("--prior", default="lgg")
    arguments.add_argument("--patients", type=int, default=4)
    arguments.add_argument("--slices", type=int, default=1, help="of each patient")
    arguments.add_argument("--tune", action="store_true")
    arguments.add_argument("--methods", help="NAME[:OPTION=VALUE...],...")
    arguments.add_argument("--plot", type=Path)
    options = arguments.parse_args()
    prior = load_prior(options.prior)
    scan = SCAN.build(*prior.settings.image_size)
    patients = read(options.data, prior.modalities, 1, options.patients)
    flair = prior.modalities.index("FLAIR")
    methods = list(tuning()) if options.tune else [*OURS, *THEIRS]
    if options.methods:
        methods = options.methods.split(",")
    operator = BlockDiagonal({"T1": Identity(), "FLAIR": scan})
    samplers = {text: sampler_of(text) for text in methods}
    found: dict[str, list[np.ndarray]] = {text: [] for text in methods}
    seconds = dict.fromkeys(methods, 0.0)
    for turn, patient in enumerate(patients):
        places = evenly(len(patient.stack), options.slices)
        stack = patient.stack[places]
        known = k_space(patient, prior.modalities, scan)["FLAIR"][places]
        data = {"T1": stack[:, prior.modalities.index("T1")], "FLAIR": known}
        if turn == 0:  # what is computed once for all
            reconstruct(prior, operator, data, sampler_of("mds:steps=2"))
        for text, sampler in samplers.items():
            start = time.perf_counter()
            result = reconstruct(prior, operator, data, sampler, seed=patient.seed)
            seconds[text] += time.perf_counter() - start
            found[text].append(score(result[0, :, flair], stack[:, flair]))
        print(f"patient {turn + 1} of {len(patients)}", file=sys.stderr)
    points: dict[str, list[tuple[float, float]]] = {}
    print(f"| method | PSNR | SSIM | seconds a slice |\n|{'---|' * 4}")
    for text in methods:
        psnr, ssim, _ = np.mean(found[text], 0)
        each = seconds[text] / len(patients) / options.slices
        points.setdefault(text.split(":")[0], []).append((each, psnr))
        print(f"| `{text}` | {psnr:.2f} | {ssim:.3f} | {each:.2f} |")
    if options.plot:
        import matplotlib.pyplot as plt

        figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
        for name, line in points.items():
            mark = "s--" if name in GRID else "o-"
            axes.plot(*zip(*line, strict=True), mark, label=name)
        axes.set(xscale="log", xlabel="seconds a slice", ylabel="PSNR of FLAIR (dB)")
        axes.set_xticks([1, 2, 5, 10, 20, 50, 100], ["1", "2", "5", "10", "20", "50", "100"])
        axes.minorticks_off()
        axes.legend()
        figure.savefig(options.plot, dpi=150)


if __name__ == "__main__":
    main()
