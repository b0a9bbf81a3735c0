"""Seconds per patient of prepare, for one patient to sixteen, and the reading rate of a cohort.

    python bench/cohort.py --data LGG/train [--workers 2]

The patients are folders of NIfTI on one grid. They are prepared at their own spacing into a new
store in a temporary folder. The reading rate is in slices per second from the store to memory,
normalised and with all modalities. It is compared with the rate of a training step of the shipped
recipe on this machine.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import torch
from any2all_core import PriorSettings, StackFormat
from any2all_core.network import build_prior
from any2all_core.recipe import Recipe
from any2all_data.kinds import stack_format
from any2all_data.prepare import FoundPlan, prepare_all
from any2all_data.ranking import choose
from any2all_data.rules import read_rules
from any2all_data.sources import Source, find_sources
from any2all_data.stacking import Preparation
from any2all_data.store import CohortStore

MODALITIES = ("T1", "FLAIR", "T1Gd")


def plans(data: Path, count: int) -> list[FoundPlan]:
    owned: dict[str, list[Source]] = defaultdict(list)
    for source in find_sources(data)[0]:
        owned[source.patient].append(source)
    chosen = [
        choose(sources, read_rules(), MODALITIES, "T1") for _, sources in sorted(owned.items())
    ]
    return [FoundPlan(f"p-{k:03d}", "train", sources) for k, sources in enumerate(chosen[:count])]


def training_rate() -> float:
    """Images per second of forward and backward, with the batch of the recipe."""
    recipe = Recipe()
    prior = build_prior(recipe, PriorSettings(StackFormat.of_names(MODALITIES, (128, 128))))
    x = torch.randn(recipe.batch_size, 3, 128, 128)
    seconds = []
    for _ in range(4):
        start = time.perf_counter()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            prior.predict(x, torch.full((len(x),), 500)).square().mean().backward()
        seconds.append(time.perf_counter() - start)
    return recipe.batch_size / min(seconds)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--data", type=Path, required=True)
    arguments.add_argument("--workers", type=int, default=os.cpu_count())
    options = arguments.parse_args()
    folder = Path(tempfile.mkdtemp())
    try:
        print(f"{options.workers} workers\n{'patients':>10}{'seconds':>10}{'a patient':>12}")
        for count in (1, 2, 4, 8, 16):
            url = str(folder / f"c{count}")
            CohortStore.create(url, stack_format(MODALITIES, (128, 128)))
            start = time.perf_counter()
            done = list(
                prepare_all(plans(options.data, count), url, Preparation(), options.workers)
            )
            took = time.perf_counter() - start
            assert {outcome.status for outcome in done} == {"prepared"}
            print(f"{count:10}{took:10.1f}{took / count:12.2f}")
        start = time.perf_counter()
        store = CohortStore.open(url)
        slices = store.slices(store.patients(), MODALITIES)
        rate = len(slices) / (time.perf_counter() - start)
        pace = training_rate()
        print(f"read: {rate:.0f} slices/s, {rate / pace:.0f} x the network's {pace:.1f}")
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
