"""Quality against time: our samplers beside deepinv's DiffPIR and DPS with the same prior, one run.

    pip install deepinv matplotlib
    python bench/frontier.py --data LGG/test [--prior lgg] [--patients 4] [--slices 1] [--plot PNG]
    python bench/frontier.py --data LGG/val --tune       # what deepinv's options were chosen by

FLAIR from its k-space (R = 4, 8 coils, as in reconstruction.py) with T1 clean; the same data,
network, batch and threads for all, in turns. deepinv is given the prior as a denoiser of [0, 1]
images, and T1 as measured with the noise of the k-space, since one noise level is all it takes.
PSNR and SSIM are means over patients, seconds those of a slice.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path

import deepinv
import numpy as np
import torch
from any2all_core import DiffusionPrior, load_prior, make_sampler, reconstruct
from any2all_core.reconstruct import complete
from any2all_operators import BlockDiagonal, Identity, Operator
from any2all_samplers.mmps import flatten, unflatten
from reconstruction import SCAN, k_space, read, score
from torch import Tensor

OURS = ("mds:steps=5", "mds:steps=10", "mds:steps=20", "mds", "mds:steps=150", "mps", "mmps")
THEIRS = ("DiffPIR:max_iter=10", "DiffPIR:max_iter=20", "DiffPIR:max_iter=50")
THEIRS += ("DPS:num_steps=100", "DPS:num_steps=250")
CHOSEN = {"DiffPIR": {"lambda_": 7.0, "zeta": 1.0}, "DPS": {"weight": 1.0}}
GRID = {
    "DiffPIR": [
        {"lambda_": weight, "zeta": zeta} for weight in (1.0, 3.0, 7.0, 25.0) for zeta in (0.3, 1.0)
    ],
    "DPS": [{"weight": weight} for weight in (0.3, 1.0, 3.0, 10.0)],
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


def by_deepinv(
    name: str,
    settings: dict[str, str],
    prior: DiffusionPrior,
    operator: BlockDiagonal,
    data: dict[str, Tensor],
    seed: int,
) -> Tensor:
    """A reconstruction by DiffPIR or DPS, (B, M, H, W)."""
    options = CHOSEN[name] | {
        k: float(text) if "." in text else int(text) for k, text in settings.items()
    }
    slices = len(data["FLAIR"])
    whole = complete(operator, prior)
    given = {m: data.get(m, torch.zeros(slices, 0)) for m in whole.modalities}
    physics = Stack(whole, given, SCAN.noise_std)
    y, denoiser = flatten(given), Denoiser(prior)
    torch.manual_seed(seed)
    if name == "DiffPIR":
        fidelity = deepinv.optim.data_fidelity.L2()
        result: Tensor = deepinv.sampling.DiffPIR(denoiser, fidelity, SCAN.noise_std, **options)(
            y, physics
        )
        return result
    shape = (slices, len(prior.modalities), *prior.settings.image_size)
    sampler = deepinv.sampling.DPS(denoiser, dtype=torch.float32, **options)
    result = sampler(y, physics, x_init=shape, seed=seed)
    return result


def image_of(
    text: str, prior: DiffusionPrior, scan: Operator, data: dict[str, Tensor], seed: int
) -> Tensor:
    """FLAIR by a method NAME[:OPTION=VALUE...], (B, H, W)."""
    name, *rest = text.split(":")
    settings = dict(option.split("=") for option in rest)
    if name in CHOSEN:
        noisy = BlockDiagonal({"T1": Identity(noise_std=SCAN.noise_std), "FLAIR": scan})
        stack = by_deepinv(name, settings, prior, noisy, data, seed)
    else:
        operator = BlockDiagonal({"T1": Identity(), "FLAIR": scan})
        stack = reconstruct(prior, operator, data, make_sampler(name, settings), seed=seed)[0]
    return stack[:, prior.modalities.index("FLAIR")].detach().float()


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
    points: dict[str, list[tuple[float, float]]] = {}
    print(f"| method | PSNR | SSIM | seconds a slice |\n|{'---|' * 4}")
    for text in methods:
        found, seconds = [], 0.0
        for patient in patients:
            count = len(patient.stack)
            places = [round((i + 1) * count / (options.slices + 1)) for i in range(options.slices)]
            stack = patient.stack[places]
            known = k_space(patient, prior.modalities, scan)["FLAIR"][places]
            data = {"T1": stack[:, prior.modalities.index("T1")], "FLAIR": known}
            start = time.perf_counter()
            image = image_of(text, prior, scan, data, patient.seed)
            seconds += time.perf_counter() - start
            found.append(score(image, stack[:, flair]))
        psnr, ssim, _ = np.mean(found, 0)
        each = seconds / len(patients) / options.slices
        points.setdefault(text.split(":")[0], []).append((each, psnr))
        print(f"| `{text}` | {psnr:.2f} | {ssim:.3f} | {each:.2f} |", flush=True)
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
