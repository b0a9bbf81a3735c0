"""Draw the missing images of training patients with a prior."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from any2all_core.reconstruct import reconstruct
from any2all_core.sampler import Sampler
from any2all_core.stack_format import Range
from any2all_data.coverage import covered
from any2all_data.normalise import Array
from any2all_data.patient import to_stack
from any2all_data.patient_volumes import open_patient
from any2all_data.store import CohortStore
from any2all_operators import BlockDiagonal, Identity, UserError

from any2all_app.named_prior import NamedPrior
from any2all_app.observer import SILENT, Observer
from any2all_app.shared_run import share

DRAWING = "drawing, patients"


@dataclass(frozen=True)
class Filling:
    """Options for drawing the missing images of a cohort.

    Parameters
    ----------
    prior
        Prior trained on the cohort's complete patients.
    sampler, sampler_name
        The sampler, and its name in the cohort.
    seed
        Seed of all random numbers.
    replace
        Whether images drawn with another prior, sampler or seed are replaced.
    batch_size
        Slices of one network call.
    """

    prior: NamedPrior
    sampler: Sampler
    sampler_name: str
    seed: int = 0
    replace: bool = False
    batch_size: int = 32

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise UserError(f"--batch-size {self.batch_size}: expected at least 1")


def fill(cohort: str, filling: Filling, observer: Observer = SILENT) -> int:
    """Draw each training patient's missing images once; the cohort stores them separately.

    This is the E-step of expectation maximisation: x ~ p(x | y) under a prior of complete
    patients. Training with ``incomplete`` is the M-step. An interrupted run continues where it
    stopped, and processes share the patients.

    Parameters
    ----------
    cohort
        Path or URL of a cohort of ``any2all prepare``.
    filling
        The prior and the sampler.
    observer
        Receives the progress.

    Returns
    -------
    int
        The number of patients with missing images.

    Raises
    ------
    UserError
        If the prior does not match the cohort's images, no patient lacks an image, or another
        prior has drawn the images before.

    References
    ----------
    Rozet 2024, *Learning diffusion priors from observations by expectation maximization*,
    arXiv 2405.13712.
    """
    store = CohortStore.open(cohort, writable=True)
    prior, name = filling.prior.prior, filling.prior.name
    if prior.format.size != store.format.size:
        (height, width), (rows, columns) = store.format.size, prior.format.size
        raise UserError(
            f"--prior {name}: has slices of {rows} x {columns}, but {cohort} has {height} x "
            f"{width}; train one on the cohort's complete patients: any2all train --data "
            f"{cohort} --output {cohort.rstrip('/')}-prior"
        )
    lacking = store.with_gaps(prior.modalities)
    if not lacking:
        raise UserError(
            f"{cohort}: no patient of train has one of {', '.join(prior.modalities)} and lacks "
            "another; there is nothing to fill"
        )
    of_prior, of_cohort = prior.format.ranges, store.format.ranges
    both = [m for m in prior.modalities if m in store.format.names]
    if other := [m for m in both if (m in of_prior) != (m in of_cohort)]:
        raise UserError(
            f"--prior {name}: the units of its {', '.join(other)} differ from the cohort's; "
            "train one on this cohort"
        )
    by = {"prior": filling.prior.sha256, "seed": filling.seed}
    sampler = {"name": filling.sampler_name, **vars(filling.sampler)}
    by |= {"sampler": json.loads(json.dumps(sampler, default=str))}
    others = [p for p, (entry, _) in lacking.items() if entry.drawn and entry.drawn_by != by]
    if others and not filling.replace:
        raise UserError(
            f"{cohort}: {len(others)} patients have images drawn by another prior, sampler or "
            "seed; give --replace to draw them again"
        )
    rank, processes = share()
    own = list(lacking)[rank::processes]
    for done, patient in enumerate(own):
        observer.progress(DRAWING, done, len(own))
        entry, missing = lacking[patient]
        if entry.drawn_by != by:
            images = draw_missing(f"{cohort.rstrip('/')}/{patient}", missing, filling)
            store.write_drawn(patient, images, missing, by)
    observer.progress(DRAWING, len(own), len(own))
    return len(lacking)


def draw_missing(patient: str, missing: Sequence[str], filling: Filling) -> Array:
    """Draw a patient's (COHORT/NAME) missing images once, for each slice that shows a head.

    Returns (Z, M, H, W) of the missing modalities in physical units, MR in [0, 1].
    """
    prior = filling.prior.prior
    volumes = open_patient(patient, prior.format).volumes
    stack = to_stack(volumes)
    ids = covered(stack).nonzero().flatten()
    result = torch.zeros(len(stack), len(missing), *prior.format.size)
    if len(ids):
        name = patient.rpartition("/")[2]
        key = hashlib.sha256(f"{filling.seed} {name}".encode()).digest()
        draw = reconstruct(
            prior,
            BlockDiagonal({m: Identity() for m in volumes}),
            {m: stack[ids, k] for k, m in enumerate(volumes)},
            filling.sampler,
            slice_ids=ids.tolist(),
            seed=int.from_bytes(key[:8]),  # patients' noise differs
            batch_size=filling.batch_size,
        )[0]
        result[ids] = draw[:, [prior.modalities.index(m) for m in missing]]
    images = result.numpy()
    for k, m in enumerate(missing):
        values = prior.format[m].range or Range(0.0, 1.0)
        images[:, k] = values.physical(images[:, k])
    return images
