"""Every sampler against the exact posterior: bias, spread, and the share of each mode.

    python bench/oracle.py [--draws 512] [--sampler mds:steps=20 ...]

Two images of 8 x 8 are drawn from a Gaussian prior, and from a mixture of two Gaussians; see
any2all_core.oracle. A right sampler has bias 0, spread 1, and the exact shares. The prior has a
noise level for each image (separate), or one for both (shared).
"""

from __future__ import annotations

import argparse

import torch
from any2all_app.grammar import sampler_of
from any2all_core.oracle import cases, mode_shares, posterior_error
from any2all_core.prior_settings import Levels

SAMPLERS: dict[Levels, tuple[str, ...]] = {
    "separate": ("mds", "mds:steps=50", "mps:zeta=0.1", "mcs", "mcs:steps=50", "mmps"),
    "shared": ("mds", "mds:steps=50", "mds:preset=paper", "mmps"),
}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--draws", type=int, default=512)
    arguments.add_argument("--sampler", action="append")
    options = arguments.parse_args()
    torch.set_num_threads(1)
    known = {name: case for name, case in cases().items() if case}
    print(f"| levels | sampler | {' | '.join(known)} | modes of B given A |")
    print("|" + "---|" * (len(known) + 3))
    for levels, samplers in SAMPLERS.items():
        for text in options.sampler or samplers:
            sampler = sampler_of(text)
            cells = []
            for case in known.values():
                found = posterior_error(sampler, case, options.draws, levels=levels)
                cells.append("; ".join(f"{f.bias:.2f} / {f.spread:.2f}" for f in found.values()))
            shares = mode_shares(sampler, options.draws, levels=levels)
            cells.append(", ".join(f"{found:.2f} ({exact:.2f})" for exact, found in shares))
            print(f"| {levels} | `{text}` | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
