"""From found scans to a cohort: read, register to the reference, put on one grid, store.

Patients are independent, and preparing one twice gives the same bytes. So they are spread over
processes of this machine, or over a Dask cluster, and a process that dies costs only its time.
"""

from __future__ import annotations

import hashlib
import logging
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from any2all_core.modality_kind import ModalityKind
from any2all_core.stack_format import StackFormat
from any2all_operators import UserError

from any2all_data.cohort_entry import Entry, Split
from any2all_data.kinds import kind_for
from any2all_data.masks import with_masks
from any2all_data.normalise import Array, mr_scale
from any2all_data.patient import oriented
from any2all_data.processes import in_processes
from any2all_data.sources import Source
from any2all_data.stacking import NOT_DEFACED, Preparation, prepared
from any2all_data.store import CohortStore

VIRTUAL_EXTENT = 180.0
"""Of a virtual head from the lowest slice to the highest, mm."""
SIMULATED = "virtual: simulated, no such person exists"
ALWAYS_NOTED = (NOT_DEFACED, SIMULATED)
"""Of every patient of a source, or of every virtual person."""


@dataclass(frozen=True)
class Plan:
    """A patient to prepare: its hashed name, and for each modality its images, the best first.

    masks: files of lesions and the like, that lie on one of the images.
    """

    patient: str
    split: Split
    sources: Mapping[str, Sequence[Source]]
    masks: Mapping[str, Source] = field(default_factory=dict)


@dataclass(frozen=True)
class VirtualPlan:
    """A virtual person to draw."""

    patient: str
    split: Split
    seed: int


@dataclass(frozen=True)
class Outcome:
    """What became of a patient; ``reason`` of a refusal."""

    patient: str
    status: Literal["prepared", "unchanged", "refused"]
    entry: Entry | None = None
    reason: str = ""
    seconds: float = field(default=0.0, compare=False)


def prepare_patient(
    plan: Plan | VirtualPlan, url: str, preparation: Preparation, anew: bool = False
) -> Outcome:
    """Prepare one patient into the cohort at ``url``, unless it is there already.

    anew: even where it is there, made of other files or otherwise; without it that is refused.
    Never raises for what is wrong with a patient's files: that is its outcome. What an unexpected
    error says is not repeated, as it may hold names: only its kind and where it was.
    """
    start = time.perf_counter()
    try:
        store = CohortStore.open(url, writable=True)
        format_ = store.format
        if isinstance(plan, VirtualPlan):
            sources = {"seed": str(plan.seed)}
        else:
            sources = {
                m: fingerprint(found, kind_for(format_[m])) for m, found in plan.sources.items()
            }
            sources |= {f"mask {name}": fingerprint([one]) for name, one in plan.masks.items()}
        made: dict[str, Any] = {
            "split": plan.split,
            "sources": sources,
            "preparation": asdict(preparation),
        }
        there = store.entry(plan.patient)
        if there is not None:
            kept = asdict(there)
            kept["preparation"] = asdict(Preparation()) | there.preparation
            other = [what for what, value in made.items() if kept[what] != value]
            if not other:
                return Outcome(plan.patient, "unchanged", there)
            if not anew:
                said = f"is there already, with other {' and '.join(other)}; --replace it, or not"
                return Outcome(plan.patient, "refused", there, said)
        masks = None
        if isinstance(plan, VirtualPlan):
            images, entry = _virtual(plan, format_)
        else:
            images, entry = prepared(plan.sources, format_, preparation)
            masks, entry = with_masks(plan.masks, images.shape, entry, preparation.trust_axes)
        entry = replace(entry, **made)
        store.write(plan.patient, images, entry, masks)
    except UserError as error:
        return Outcome(plan.patient, "refused", reason=str(error))
    except OSError as error:
        return Outcome(plan.patient, "refused", reason=error.strerror or type(error).__name__)
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        reason = f"{type(error).__name__} at {Path(where.filename).name}:{where.lineno}"
        return Outcome(plan.patient, "refused", reason=reason)
    return Outcome(plan.patient, "prepared", entry, seconds=time.perf_counter() - start)


def prepare_all(
    plans: Sequence[Plan | VirtualPlan],
    url: str,
    preparation: Preparation,
    workers: int,
    scheduler: str | None = None,
    anew: bool = False,
) -> Iterator[Outcome]:
    """Prepare patients in processes, as they are done; ``anew``: see prepare_patient.

    workers: processes of this machine. scheduler: the address of a running Dask scheduler, whose
    workers are used instead. A patient whose processes died again and again is refused, the
    others go on.
    """
    work = partial(prepare_patient, url=url, preparation=preparation, anew=anew)
    if scheduler is not None:
        yield from _on_cluster(work, plans, scheduler)
        return
    for plan, outcome in in_processes(work, plans, workers, preload=__name__):
        yield outcome or Outcome(plan.patient, "refused", reason="its process ended")


def _on_cluster(
    work: Callable[[Plan | VirtualPlan], Outcome],
    plans: Sequence[Plan | VirtualPlan],
    scheduler: str,
) -> Iterator[Outcome]:
    try:
        from distributed import Client, as_completed
    except ImportError:
        raise UserError("--scheduler needs Dask; run pip install 'any2all-data[cohort]'") from None
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    try:
        client = Client(scheduler, timeout="10s")
    except (OSError, ValueError) as error:
        raise UserError(
            f"--scheduler {scheduler}: no Dask scheduler answers ({error}); expected "
            "tcp://HOST:PORT"
        ) from None
    with client:
        names = {client.submit(work, plan, pure=False): plan.patient for plan in plans}
        for future in as_completed(names):
            if future.status == "finished":
                yield future.result()
            else:
                kind = type(future.exception()).__name__
                yield Outcome(names[future], "refused", reason=f"its process ended ({kind})")


def fingerprint(sources: Sequence[Source], kind: ModalityKind | None = None) -> str:
    """SHA-256 of all files that an image may be made of; kind: of an image, None for a mask."""
    pet = kind is not None and kind.values == "suv"
    return hashlib.sha256("".join(s.fingerprint(pet) for s in sources).encode()).hexdigest()


def _virtual(plan: VirtualPlan, format_: StackFormat) -> tuple[Array, Entry]:
    from any2all_data.virtual import virtual_person

    (height, width), grid = format_.size, format_.known_grid
    assert grid.spacing is not None
    depth = round(VIRTUAL_EXTENT / grid.spacing[2])
    person = virtual_person(plan.seed, spacing=grid.spacing, shape=(width, height, depth))
    turned = {m: oriented(person.images[m]) for m in format_.names}
    images = np.stack(
        [np.asarray(turned[m].dataobj, np.float32).transpose(2, 1, 0) for m in turned], 1
    )
    entry = Entry(
        split="train",
        affine=next(iter(turned.values())).affine.tolist(),
        present=list(format_.names),
        reference=grid.reference,
        scale={
            modality.name: mr_scale(images[:, m])
            for m, modality in enumerate(format_.modalities)
            if not kind_for(modality).physical
        },
        notes=[SIMULATED],
    )
    return images, entry
