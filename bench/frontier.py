"""Quality against time: our samplers beside deepinv's DiffPIR and DPS with the same prior, one run.

    pip install deepinv matplotlib
    python bench/frontier.py --data LGG/test [--prior lgg] [--patients 4] [--slices 3] [--plot PNG]
    python bench/frontier.py --data LGG/val --tune       # what deepinv's options were chosen by

FLAIR from its k-space (R = 4, 8 coils, as in reconstruction.py) with T1 clean; the same data,
network, batch and threads for all, which take their turn at each patient. deepinv is given the
prior as a denoiser of [0, 1] images, our prox (its own by conjugate gradients would be slower), and
T1 as measured with the noise of the k-space, since one noise level is all it takes. DiffPIR's
answer keeps the noise of its last step, 0.005, as deepinv has it. PSNR and SSIM are means over
patients, seconds those of a slice.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import deepinv
import numpy as np
import torch
from any2all_core import DiffusionPrior, load_prior, reconstruct
from any2all_core.reconstruct import complete
from any2all_operators import BlockDiagonal, Identity, Operator
from any2all_samplers.mmps import flatten, unflatten
from reconstruction import SCAN, evenly, k_space, read, sampler_of, score
from torch import Tensor

Method = Callable[[dict[str, Tensor], int], Tensor]
OURS = ("mds:steps=5", "mds:steps=10", "mds:steps=20", "mds", "mds:steps=150", "mps", "mmps")
THEIRS = ("DiffPIR:max_iter=10", "DiffPIR:max_iter=20", "DiffPIR:max_iter=50")
THEIRS += ("DPS:num_steps=100", "DPS:num_steps=250")
CHOSEN: dict[str, dict[str, float | str]] = {
    "DiffPIR": {"lambda_": 7.0, "zeta": 1.0},
    "DPS": {"weight": 300.0},
}
GRID: dict[str, list[dict[str, float | str]]] = {
    "DiffPIR": [
        {"lambda_": weight, "zeta": zeta}
        for weight in (1.0, 2.0, 3.0, 7.0, 25.0)
        for zeta in (0.3, 1.0)
    ],
    "DPS": [
        *({"weight": weight} for weight in (30.0, 100.0, 300.0, 1000.0, 3000.0)),
        *({"guidance": "annealed", "weight": weight} for weight in (0.3, 1.0, 3.0)),
    ],
}


class Denoiser(deepinv.models.Denoiser):
    """E[x_0 | x_0 + sigma z] of [0, 1] images by the prior, at its nearest time."""

    def __init__(self, prior: DiffusionPrior) -> None:
        super().__init__()
        self.prior = [prior]  # not a submodule: it is only called

    def forward(self, x: Tensor, sigma: Tensor | float, *_: object, **__: object) -> Tensor:
        (prior,) = self.prior
        level = 2 * float(torch.as_tensor(sigma).flatten()[0])
        t = int((prior.schedule.sigma - level).abs().argmin())
        alpha_bar = float(prior.schedule.alpha_bar[t])
        x0_hat: Tensor = prior.denoise(alpha_bar**0.5 * (2 * x - 1).float(), t)
        return (x0_hat + 1) / 2


class Stack(deepinv.physics.LinearPhysics):
    """Our block-diagonal operator; all data as one real vector a slice, (B, N)."""

    def __init__(self, operator: BlockDiagonal, data: dict[str, Tensor], noise_std: float) -> None:
        super().__init__(noise_model=deepinv.physics.GaussianNoise(noise_std))
        self.operator, self.like = operator, data

    def A(self, x: Tensor, **_: object) -> Tensor:
        return flatten(self.operator.forward(x.float()))

    def A_adjoint(self, y: Tensor, **_: object) -> Tensor:
        return self.operator.adjoint(unflatten(y.float(), self.like))

    def prox_l2(self, z: Tensor, y: Tensor, gamma: Tensor | float, **_: object) -> Tensor:
        weight = dict.fromkeys(self.like, float(gamma))
        return self.operator.prox(unflatten(y.float(), self.like), z.float(), weight)


def by_deepinv(name: str, settings: dict[str, str], prior: DiffusionPrior) -> Any:
    """The sampler of deepinv, a callable of data and physics."""
    options = dict(CHOSEN[name])
    for option, text in settings.items():
        number = text.replace(".", "").isdigit()
        options[option] = (float(text) if "." in text else int(text)) if number else text
    if name == "DPS":
        return deepinv.sampling.DPS(Denoiser(prior), dtype=torch.float32, **options)
    fidelity = deepinv.optim.data_fidelity.L2()
    return deepinv.sampling.DiffPIR(Denoiser(prior), fidelity, SCAN.noise_std, **options)


def method(text: str, prior: DiffusionPrior, scan: Operator) -> Method:
    """What reconstructs FLAIR, (B, H, W), from {modality: data} and a seed; of a text

    NAME[:OPTION=VALUE...], of our samplers or deepinv's.
    """
    name, *rest = text.split(":")
    settings = dict(option.split("=") for option in rest)
    flair = prior.modalities.index("FLAIR")
    if name not in CHOSEN:
        sampler = sampler_of(text)
        operator = BlockDiagonal({"T1": Identity(), "FLAIR": scan})
        return lambda data, seed: reconstruct(prior, operator, data, sampler, seed=seed)[
            0, :, flair
        ]
    theirs = by_deepinv(name, settings, prior)
    noisy = {"T1": Identity(noise_std=SCAN.noise_std), "FLAIR": scan}
    whole = complete(BlockDiagonal(noisy), prior)

    def solve(data: dict[str, Tensor], seed: int) -> Tensor:
        slices = len(data["FLAIR"])
        given = {m: data.get(m, torch.zeros(slices, 0)) for m in whole.modalities}
        physics = Stack(whole, given, SCAN.noise_std)
        shape = (slices, len(prior.modalities), *prior.settings.image_size)
        torch.manual_seed(seed)
        begin = {"x_init": shape} if name == "DPS" else {}
        stack: Tensor = theirs(flatten(given), physics, **begin)
        return stack[:, flair].detach().float()

    return solve


def tuning() -> Iterator[str]:
    steps = {"DiffPIR": "max_iter=50", "DPS": "num_steps=100"}
    for name, grid in GRID.items():
        for options in grid:
            yield ":".join([name, steps[name], *(f"{k}={v}" for k, v in options.items())])


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--data", type=Path, required=True)
    arguments.add_argument("--prior", default="lgg")
    arguments.add_argument("--patients", type=int, default=4)
    arguments.add_argument("--slices", type=int, default=3, help="of each patient")
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
    solvers = {text: method(text, prior, scan) for text in methods}
    found: dict[str, list[np.ndarray]] = {text: [] for text in methods}
    seconds = dict.fromkeys(methods, 0.0)
    for turn, patient in enumerate(patients):
        places = evenly(len(patient.stack), options.slices)
        stack = patient.stack[places]
        known = k_space(patient, prior.modalities, scan)["FLAIR"][places]
        data = {"T1": stack[:, prior.modalities.index("T1")], "FLAIR": known}
        if turn == 0:  # what is computed once for all
            method("mds:steps=2", prior, scan)(data, 0)
        for text, solve in solvers.items():
            start = time.perf_counter()
            image = solve(data, patient.seed)
            seconds[text] += time.perf_counter() - start
            found[text].append(score(image, stack[:, flair]))
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
            mark = "s--" if name in CHOSEN else "o-"
            label = f"deepinv {name}" if name in CHOSEN else name
            axes.plot(*zip(*line, strict=True), mark, label=label)
        axes.set(xscale="log", xlabel="seconds a slice", ylabel="PSNR of FLAIR (dB)")
        axes.legend()
        figure.savefig(options.plot, dpi=150)


if __name__ == "__main__":
    main()
