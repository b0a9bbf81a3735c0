"""SENSE of any2all, deepinv (MultiCoilMRI) and SigPy, and the bare FFTs, in one run, float32.

    pip install deepinv sigpy
    python bench/operators.py [--quick] [--complex]

There are 8 birdcage coils, with R = 4 equispaced and 8 calibration lines, or a Poisson disc of R =
8. A, A* and the prox are timed. The prox takes 5 CG steps with each library; where ours is exact,
the exact one is timed as well. The time is the best of several rounds in which the methods take
turns. "bare FFTs" are only the transforms of a naive A (A*). deepinv and SigPy work on complex
images, which is twice the work of a real image.
"""

from __future__ import annotations

import argparse
import itertools
import math
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import torch
from any2all_mri import birdcage_maps
from any2all_mri.poisson import poisson_mask
from any2all_operators import SenseFourier, conjugate_gradient, equispaced_mask
from torch import Tensor

COILS, WEIGHT, CG_STEPS = 8, 10.0, 5


def best_of(ways: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Least seconds of each over all calls; in every round each method has three calls in turn."""
    seconds = dict.fromkeys(ways, math.inf)
    for way in ways.values():
        way()
    for _ in range(rounds):
        for name, way in ways.items():
            for _ in range(3):
                start = time.perf_counter()
                way()
                seconds[name] = min(seconds[name], time.perf_counter() - start)
    return seconds


def show(title: str, seconds: Mapping[str, float], reference: str) -> None:
    unit = seconds[reference]
    line = "  ".join(f"{name} {1000 * s:.1f} ms ({unit / s:.1f} x)" for name, s in seconds.items())
    print(f"{title:34}{line}", flush=True)


def five_steps(scan: SenseFourier, y: Tensor, anchor: Tensor) -> Tensor:
    return conjugate_gradient(
        lambda u: u + WEIGHT * scan.normal(u),
        anchor + WEIGHT * scan.adjoint(y),
        anchor,
        tolerance=0.0,
        max_steps=CG_STEPS,
    )


def compare(size: int, batch: int, two_d: bool, rounds: int) -> None:
    from deepinv.physics import MultiCoilMRI
    from sigpy.mri.linop import Sense

    maps = birdcage_maps(COILS, size, size)
    mask = poisson_mask(size, size, 8, 8) if two_d else equispaced_mask(size, 4, 8)
    scan = SenseFourier(maps, mask, 0.01)
    image, anchor = torch.rand(2, batch, size, size)
    y = scan.forward(image)
    theirs = MultiCoilMRI(
        mask=mask.expand(1, size, size), coil_maps=maps[None], img_size=(2, size, size)
    )
    x2 = torch.stack([image, torch.zeros_like(image)], 1)
    y2 = torch.view_as_real(y).movedim(-1, 1).contiguous()
    sense = Sense(maps.numpy(), weights=mask.numpy())
    images = [x.numpy().astype(np.complex64) for x in image]
    data = [k.numpy() for k in y]
    agreement = float((torch.view_as_complex(theirs.A(x2).movedim(1, -1).contiguous()) - y).norm())
    if not agreement < 1e-4 * float(y.norm()):
        raise SystemExit(f"deepinv's A differs from ours by {agreement / float(y.norm()):.1e}")
    coils = scan.coil_maps * image[:, None]
    title = f"{size}², batch {batch}, {'2D' if two_d else '1D'} mask"
    show(
        f"{title}: A",
        best_of(
            {
                "deepinv": lambda: theirs.A(x2),
                "SigPy": lambda: [sense(x) for x in images],
                "any2all": lambda: scan.forward(image),
                "bare FFTs": lambda: torch.fft.fft2(coils, norm="ortho"),
            },
            rounds,
        ),
        "deepinv",
    )
    show(
        f"{title}: A*",
        best_of(
            {
                "deepinv": lambda: theirs.A_adjoint(y2),
                "SigPy": lambda: [sense.H(k) for k in data],
                "any2all": lambda: scan.adjoint(y),
                "bare FFTs": lambda: torch.fft.ifft2(y, norm="ortho"),
            },
            rounds,
        ),
        "deepinv",
    )
    z2 = torch.stack([anchor, torch.zeros_like(anchor)], 1)
    start = time.perf_counter()
    scan.prox(y, anchor, WEIGHT)
    first = time.perf_counter() - start
    ways: dict[str, Callable[[], object]] = {
        "deepinv": lambda: theirs.prox_l2(z2, y2, WEIGHT, max_iter=CG_STEPS, tol=0.0),
        "any2all": lambda: five_steps(scan, y, anchor),
    }
    if not two_d:
        exact = scan.prox_of(y)
        ways["any2all, exact"] = lambda: exact(anchor, WEIGHT)
    seconds = best_of(ways, max(rounds // 2, 2))
    show(f"{title}: prox, {CG_STEPS} CG", seconds, "deepinv")
    if not two_d:
        saved = seconds["deepinv"] - seconds["any2all, exact"]
        print(f"{'':34}set-up {first:.2f} s, pays from {math.ceil(first / saved)} steps on")


def compare_complex(size: int, batch: int, rounds: int) -> None:
    """The exact prox of complex images, compared with five CG steps and with real images."""
    mask = equispaced_mask(size, 4, 8)
    real = SenseFourier(birdcage_maps(COILS, size, size), mask, 0.01)
    scan = replace(real, complex_image=True)
    image, anchor = torch.randn(2, batch, size, size, dtype=torch.complex64)
    y = scan.forward(image)
    start = time.perf_counter()
    exact = scan.prox_of(y)
    first = time.perf_counter() - start
    exact_of_real, plain = real.prox_of(y), anchor.real.contiguous()
    ways: dict[str, Callable[[], object]] = {
        "5 CG": lambda: five_steps(scan, y, anchor),
        "exact": lambda: exact(anchor, WEIGHT),
        "exact of real images": lambda: exact_of_real(plain, WEIGHT),
    }
    show(f"{size}², batch {batch}: complex prox", best_of(ways, rounds), "5 CG")
    print(f"{'':34}set-up {first:.2f} s")


def count_steps(size: int) -> None:
    """CG steps until the answer is within 1e-3 of the exact one, with and without."""
    scan = SenseFourier(birdcage_maps(COILS, size, size), poisson_mask(size, size, 8, 16), 0.01)
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    head = ((x / 0.7) ** 2 + (y / 0.85) ** 2 < 1) * (0.6 + 0.3 * np.sin(7 * x) * np.cos(9 * y))
    image = torch.from_numpy(head).float()[None]
    data = scan.measure(image, [torch.Generator().manual_seed(0)])
    for weight in (1.0, 10.0, 100.0, 400.0):
        b = weight * scan.adjoint(data)

        def solve(
            steps: int,
            tolerance: float,
            conditioned: bool,
            *,
            w: float = weight,
            b: Tensor = b,
        ) -> Tensor:
            more = {"precondition": scan.preconditioner(w)} if conditioned else {}
            return conjugate_gradient(
                lambda u: u + w * scan.normal(u),
                b,
                torch.zeros_like(b),
                tolerance=tolerance,
                max_steps=steps,
                **more,
            )

        exact = solve(2000, 1e-7, True)
        counts = [
            next(
                n
                for n in itertools.count(1)
                if float((solve(n, 0.0, way) - exact).norm()) < 1e-3 * float(exact.norm())
            )
            for way in (False, True)
        ]
        print(f"weight {weight:5g}: {counts[0]} CG steps to 1e-3, preconditioned {counts[1]}")


def memory() -> None:
    """Additional peak memory of A, A* and A*A, in copies of the coil data."""
    size, coils, batch = 256, 32, 8
    copy = 8 * batch * coils * size**2
    for what in ("forward", "adjoint", "normal"):
        given = f"torch.randn({batch}, {coils}, {size}, {size}, dtype=torch.complex64)"
        code = f"""
import re, torch
from pathlib import Path
from any2all_mri import birdcage_maps
from any2all_operators import SenseFourier, equispaced_mask

def megabytes(field):
    return int(re.search(field + r":\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) / 1e3

scan = SenseFourier(birdcage_maps({coils}, {size}, {size}), equispaced_mask({size}, 4), 0.01)
x = {given if what == "adjoint" else f"torch.rand({batch}, {size}, {size})"}
scan.{what}(x[:1])  # what is worked out once
Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
before = megabytes("VmRSS")
out = scan.{what}(x)
print(megabytes("VmHWM") - before)
"""
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        used = float(done.stdout) * 1e6
        print(
            f"{what}: {used / 1e6:.0f} MB more at its peak, result included: "
            f"{used / copy:.2f} copies of the coil data ({copy / 1e6:.0f} MB)"
        )


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--quick", action="store_true", help="128² only, few rounds")
    arguments.add_argument("--complex", action="store_true", help="only complex images; no deepinv")
    options = arguments.parse_args()
    torch.manual_seed(0)
    sizes, rounds = ((128,), 4) if options.quick else ((128, 256), 12)
    if options.complex:
        print("in brackets, how many times faster than five steps of conjugate gradients\n")
        for size, batch in itertools.product(sizes, (1, 8)):
            compare_complex(size, batch, rounds)
        return
    print(f"{torch.get_num_threads()} threads; in brackets, how many times faster than deepinv\n")
    for size, batch in itertools.product(sizes, (1, 8)):
        compare(size, batch, two_d=False, rounds=rounds)
    compare(sizes[-1], 8, two_d=True, rounds=rounds)
    print("\n128², 8 coils, Poisson disc of R = 8, centre 16 x 16")
    count_steps(128)
    print("\n256², 32 coils, batch 8")
    memory()
    print(f"\npeak of this run: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.1f} GB")


if __name__ == "__main__":
    main()
