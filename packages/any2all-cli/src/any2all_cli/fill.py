"""``any2all fill``: what training patients lack, drawn by a prior from what they have."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

import torch
from any2all_core.prior import DiffusionPrior, weights_hash
from any2all_core.reconstruct import make_sampler, prior_folder, reconstruct
from any2all_core.sampler import Sampler
from any2all_data.cohort import covered
from any2all_data.inputs import open_patient
from any2all_data.normalise import Array, Range, fixed_range
from any2all_data.patient import to_stack
from any2all_data.store import CohortStore
from any2all_operators import BlockDiagonal, Identity, UserError
from rich.console import Console

from any2all_cli.many import share
from any2all_cli.output import progress_bar
from any2all_cli.parsing import name_values


def run(
    url: str,
    prior_name: str,
    sampler_name: str,
    settings: list[str],
    preset: str | None,
    seed: int,
    anew: bool,
    batch_size: int,
    precision: str,
    device: str,
) -> None:
    """Draw once what each patient of train lacks; the cohort keeps it apart from the images.

    One step of expectation maximisation: x ~ p(x | y) under a prior of patients who lack nothing;
    ``any2all train --incomplete`` takes the other (Rozet 2024, arXiv 2405.13712).
    """
    if batch_size < 1:
        raise UserError(f"--batch-size {batch_size}: expected at least 1")
    store = CohortStore.open(url, writable=True)
    sampler = make_sampler(sampler_name, name_values(settings, "--set"), preset)
    folder = prior_folder(prior_name)
    prior = DiffusionPrior.load(folder, precision, device)
    if prior.settings.image_size != store.settings.size:
        (height, width), (rows, columns) = store.settings.size, prior.settings.image_size
        raise UserError(
            f"--prior {prior_name}: of {rows} x {columns}, but {url} has slices of {height} x "
            f"{width}; train one on those of its patients who lack nothing"
        )
    lacking = store.with_gaps(prior.modalities)
    if not lacking:
        raise UserError(
            f"{url}: no patient of train has one of {', '.join(prior.modalities)} and lacks "
            "another; there is nothing to fill"
        )
    kept, fixed = prior.settings.normalisation, store.fixed()
    both = [m for m in prior.modalities if m in store.settings.modalities]
    if other := [m for m in both if (fixed_range(kept.get(m)) is None) != (m not in fixed)]:
        raise UserError(
            f"--prior {prior_name}: its {', '.join(other)} is in other units than the cohort's; "
            "train one on this cohort"
        )
    by = {"prior": weights_hash(folder), "seed": seed}
    by |= {"sampler": json.loads(json.dumps({"name": sampler_name, **vars(sampler)}, default=str))}
    others = [p for p, (entry, _) in lacking.items() if entry.drawn and entry.drawn_by != by]
    if others and not anew:
        raise UserError(
            f"{url}: {len(others)} patients have images drawn by another prior, sampler or seed; "
            "--replace draws them anew"
        )
    console = Console(stderr=True)
    rank, processes = share()
    own = list(lacking)[rank::processes]
    with progress_bar(console, unit="patients") as bar:
        task = bar.add_task("drawing", total=len(own))
        for patient in own:
            entry, missing = lacking[patient]
            if entry.drawn_by != by:
                path = f"{url.rstrip('/')}/{patient}"
                images = drawn(path, missing, prior, sampler, seed, batch_size)
                store.write_drawn(patient, images, missing, by)
            bar.advance(task)
    if rank == 0:
        console.print(
            f"{len(lacking)} patients with gaps: what is drawn of them is synthetic, and for train "
            "--incomplete alone"
        )


def drawn(
    patient: str,
    missing: Sequence[str],
    prior: DiffusionPrior,
    sampler: Sampler,
    seed: int,
    batch_size: int,
) -> Array:
    """One draw of what a patient (COHORT/NAME) lacks, of each slice that shows a head.

    (Z, M, H, W) of the missing modalities in physical units, MR in [0, 1].
    """
    modalities, kept = prior.modalities, prior.settings.normalisation
    size, grid = prior.settings.image_size, prior.settings.training.get("grid")
    volumes = open_patient(patient, modalities, kept, size, grid).volumes
    stack = to_stack(volumes)
    ids = covered(stack).nonzero().flatten()
    result = torch.zeros(len(stack), len(missing), *size)
    if len(ids):
        name = patient.rpartition("/")[2]
        key = hashlib.sha256(f"{seed} {name}".encode()).digest()
        draw = reconstruct(
            prior,
            BlockDiagonal({m: Identity() for m in volumes}),
            {m: stack[ids, k] for k, m in enumerate(volumes)},
            sampler,
            slice_ids=ids.tolist(),
            seed=int.from_bytes(key[:8]),  # patients' noise differs
            batch_size=batch_size,
        )[0]
        result[ids] = draw[:, [modalities.index(m) for m in missing]]
    images = result.numpy()
    for k, m in enumerate(missing):
        values = fixed_range(kept.get(m)) or Range(0.0, 1.0)
        images[:, k] = values.physical(images[:, k])
    return images
