"""The cost of a sampling step beyond the network, as ratios measured side by side in one run.

    python bench/samplers.py [--prior lgg] [--steps 10] [--repeats 5]

MDS is compared with the same number of bare network calls, and MPS with the same number of forward
and backward passes, of the same batch and precision, in turns. The median of the ratios is printed
with its range. The measurement is the most expensive one: all modalities as k-space (R = 4, 8
coils).
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from any2all_core import Noise, load_prior, make_sampler, simulate
from any2all_core.noise import generator
from any2all_core.sampler import Sampler
from any2all_mri import KSpace
from any2all_operators import BlockDiagonal, Identity, Measurement, Operator, Zero


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prior", default="lgg")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    prior = load_prior(arguments.prior)
    shape = (len(prior.modalities), *prior.settings.image_size)
    scan = KSpace().build(*shape[1:])
    first, *rest = prior.modalities
    inputs: dict[str, dict[str, Operator]] = {
        "first clean, second k-space": {m: Zero() for m in prior.modalities}
        | {first: Identity(), rest[0]: scan},
        "all k-space": {m: scan for m in prior.modalities},
    }
    device = prior.device
    where = f"{torch.get_num_threads()} threads"
    if device.type == "cuda":
        where = torch.cuda.get_device_name(device)
    print(f"precision {prior.unet.dtype}, {where}\n")
    print("| sampler | input | batch | of what | ratio | range |\n|---|---|---|---|---|---|")
    for batch in (1, 8):
        x = torch.randn(batch, *shape, device=device)
        for label, blocks in inputs.items():
            operator = BlockDiagonal(blocks)
            data = simulate(operator, torch.rand(batch, *shape))
            placed = {m: y.to(device) for m, y in data.items()}
            measurement = Measurement(operator.to(device), placed)
            times = prior.schedule.timesteps(arguments.steps)

            def forward(x: torch.Tensor = x, times: list[int] = times) -> None:
                with torch.no_grad():
                    for t in times:
                        prior.denoise(x, t)

            def backward(x: torch.Tensor = x, times: list[int] = times) -> None:
                for t in times:
                    given = x.clone().requires_grad_()
                    torch.autograd.grad(prior.denoise(given, t).sum(), given)

            for name, bare, what in (
                ("mds", forward, "network calls"),
                ("mps", backward, "forward + backward"),
            ):
                sampler = make_sampler(name, {"steps": str(arguments.steps)})

                def sample(run: Sampler = sampler, known: Measurement = measurement) -> object:
                    noise = Noise([generator(0, b, 0) for b in range(len(known))], shape, device)
                    return run(prior, known, noise)

                sample()
                bare()
                ratios = [seconds(sample) / seconds(bare) for _ in range(arguments.repeats)]
                print(
                    f"| {name} | {label} | {batch} | {what} | {statistics.median(ratios):.3f} | "
                    f"{min(ratios):.3f}–{max(ratios):.3f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
