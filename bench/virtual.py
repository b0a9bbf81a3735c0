"""A prior of virtual people on virtual people it never saw: reconstruction and synthesis, one run.

    python bench/virtual.py --data COHORT [--prior virtual] [--group test] [--every 6]

COHORT is made by ``any2all prepare --virtual``. Figures are means over people of means over slices
(every EVERY-th that shows a head). k-space is simulated as in reconstruction.py. MAE is inside the
head, in HU for CT and in SUV for PET. Without the prior: SigPy's L1-wavelet (λ tuned on val) of
FLAIR's k-space, and a per-pixel cubic regression for what is synthesised (fitted on 40 people of
train). Virtual people are simulated: no figure here says anything about real patients.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping

import numpy as np
from any2all_core import load_prior, reconstruct
from any2all_data.cohort import covered
from any2all_data.store import CohortStore
from any2all_eval.evaluate import sampler_of
from any2all_eval.patients import units
from any2all_eval.references import l1_wavelet, regression, tuned
from any2all_operators import BlockDiagonal, Identity
from reconstruction import (
    SCAN,
    Patient,
    Row,
    k_space,
    score,
)
from torch import Tensor

HEAD = 0.02
"""Where any modality is above this, a pixel is inside the head."""
ROWS = (
    Row("FLAIR k-space", (), ("FLAIR",), ("FLAIR", "T1", "CT", "PET")),
    Row("T1, FLAIR k-space", ("T1",), ("FLAIR",), ("FLAIR", "T2star", "CT", "PET")),
    Row("T1", ("T1",), (), ("FLAIR", "T2star", "CT", "PET")),
    Row("T1, FLAIR, T2star", ("T1", "FLAIR", "T2star"), (), ("CT", "PET")),
    Row("T1, FLAIR, T2star, CT", ("T1", "FLAIR", "T2star", "CT"), (), ("PET",)),
)


def people(store: CohortStore, group: str, names: tuple[str, ...], every: int) -> list[Patient]:
    found = []
    for seed, (name, entry) in enumerate(store.having(names, group).items()):
        stack = store.slices({name: entry}, names)
        found.append(Patient(seed, stack[covered(stack)][::every]))
    return found


class Lines:
    """Prints each line of the table as soon as it is known."""

    def __init__(self, units: Mapping[str, tuple[float, str]]) -> None:
        self.units = units
        print(f"| input | image | method | PSNR | SSIM | MAE | s a slice |\n|{'---|' * 7}")

    def add(
        self,
        row: str,
        image: str,
        method: str,
        results: list[Tensor],
        truths: list[Tensor],
        heads: list[Tensor],
        seconds: float,
    ) -> None:
        figures = np.mean([score(u, x) for u, x in zip(results, truths, strict=True)], 0)
        mae = ""
        if image in self.units:
            width, unit = self.units[image]
            errors = [
                float((u.clamp(0, 1) - x).abs()[head].mean())
                for u, x, head in zip(results, truths, heads, strict=True)
            ]
            mae = f"{width * float(np.mean(errors)):.3g} {unit}"
        print(
            f"| {row} | {image} | {method} | {figures[0]:.2f} | {figures[1]:.3f} | {mae} | "
            f"{seconds:.2f} |",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True)
    parser.add_argument("--prior", default="virtual")
    parser.add_argument("--group", default="test", choices=["val", "test"])
    parser.add_argument("--every", type=int, default=6)
    parser.add_argument("--draws", type=int, default=4)
    parser.add_argument("--sampler", default="mds")
    arguments = parser.parse_args()
    prior = load_prior(arguments.prior)
    names = prior.modalities
    store = CohortStore.open(arguments.data)
    scan = SCAN.build(*prior.settings.image_size)
    group = people(store, arguments.group, names, arguments.every)
    heads = [(p.stack > HEAD).any(1) for p in group]
    count = sum(len(p.stack) for p in group)
    print(f"{count} slices of {len(group)} virtual people of {arguments.group}\n")
    lines = Lines(units(prior))

    val = people(store, "val", names, 12)
    flair = names.index("FLAIR")
    data_of_val = [k_space(p, names, scan)["FLAIR"] for p in val]
    weight = tuned(l1_wavelet, scan, data_of_val, [p.stack[:, flair] for p in val])
    measured = [k_space(p, names, scan)["FLAIR"] for p in group]
    truths = [p.stack[:, flair] for p in group]
    start = time.perf_counter()
    results = [l1_wavelet(scan, weight)(y) for y in measured]
    each = (time.perf_counter() - start) / count
    lines.add("FLAIR k-space", "FLAIR", "L1-wavelet", results, truths, heads, each)
    training = dict(list(store.having(names, "train").items())[:40])
    train = store.slices(training, names)[::3]
    for row in ROWS:
        start = time.perf_counter()
        chosen = sampler_of(arguments.sampler)
        every: list[Tensor] = []
        for patient in group:
            truth = dict(zip(names, patient.stack.unbind(1), strict=True))
            data = k_space(patient, names, scan)
            known = {m: data[m] for m in row.measured} | {m: truth[m] for m in row.clean}
            blocks = {m: scan if m in row.measured else Identity() for m in known}
            draws = reconstruct(
                prior,
                BlockDiagonal(blocks),
                known,
                chosen,
                seed=patient.seed,
                draws=arguments.draws,
                batch_size=16,
            )
            every.append(draws)
        each = (time.perf_counter() - start) / count / arguments.draws
        for image in row.scored:
            m = names.index(image)
            truths = [p.stack[:, m] for p in group]
            if image not in row.measured and row.clean:
                predict = regression(train, [names.index(c) for c in row.clean], m)
                results = [predict(p.stack) for p in group]
                lines.add(row.name, image, "per-pixel regression", results, truths, heads, 0)
            one, mean = [d[0, :, m] for d in every], [d.mean(0)[:, m] for d in every]
            lines.add(row.name, image, arguments.sampler, one, truths, heads, each)
            if arguments.draws == 1:
                continue
            said = f"{arguments.sampler}, mean of {arguments.draws}"
            lines.add(row.name, image, said, mean, truths, heads, each * arguments.draws)


if __name__ == "__main__":
    main()
