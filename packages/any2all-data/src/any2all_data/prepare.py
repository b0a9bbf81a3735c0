"""Prepare patients into a cohort: read, register to the reference, resample to one grid, store.

Patients are independent, and preparing one twice gives the same bytes. So the work is divided among
processes of this machine or a Dask cluster, and is simply repeated if a process dies.
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
from typing import Any, Literal, Protocol

from any2all_core.modality_kind import ModalityKind
from any2all_core.stack_format import StackFormat
from any2all_operators import UserError

from any2all_data.cohort_entry import Entry, Split
from any2all_data.kinds import kind_for
from any2all_data.masks import with_masks
from any2all_data.normalise import Array
from any2all_data.processes import in_processes
from any2all_data.sources import Source
from any2all_data.stacking import Preparation, prepared
from any2all_data.store import CohortStore, Labels


class PatientPlan(Protocol):
    """A patient to prepare, from scans or simulated. It is pickled for another process."""

    @property
    def patient(self) -> str:
        """The patient's pseudonym."""

    @property
    def split(self) -> Split: ...

    def origin(self, format_: StackFormat) -> dict[str, str]:
        """Return {what: hash or seed} of the input. If it differs, the patient has changed."""

    def prepared(
        self, format_: StackFormat, preparation: Preparation
    ) -> tuple[Array, Entry, Labels | None]:
        """Return images (Z, M, H, W) in physical units, their entry, and masks (Z, K, H, W)."""


@dataclass(frozen=True)
class FoundPlan:
    """A patient to prepare from scans.

    - ``patient``: pseudonym.
    - ``sources``: {modality: images}, the best first.
    - ``masks``: {name: mask}, for example of lesions, drawn on one of the images.
    """

    patient: str
    split: Split
    sources: Mapping[str, Sequence[Source]]
    masks: Mapping[str, Source] = field(default_factory=dict)

    def origin(self, format_: StackFormat) -> dict[str, str]:
        """Return the SHA-256 of the files of each modality and mask."""
        images = {m: fingerprint(found, kind_for(format_[m])) for m, found in self.sources.items()}
        return images | {f"mask {name}": fingerprint([one]) for name, one in self.masks.items()}

    def prepared(
        self, format_: StackFormat, preparation: Preparation
    ) -> tuple[Array, Entry, Labels | None]:
        """Put the images and their masks on one grid."""
        images, entry = prepared(self.sources, format_, preparation)
        masks, entry = with_masks(self.masks, images.shape, entry, preparation.trust_axes)
        return images, entry, masks


@dataclass(frozen=True)
class Outcome:
    """The result of preparing a patient. ``reason`` says why it was refused."""

    patient: str
    status: Literal["prepared", "unchanged", "refused"]
    entry: Entry | None = None
    reason: str = ""
    seconds: float = field(default=0.0, compare=False)


def prepare_patient(
    plan: PatientPlan, url: str, preparation: Preparation, anew: bool = False
) -> Outcome:
    """Prepare one patient into the cohort at ``url``, unless it is there already.

    A patient that was prepared from other files or with other options is refused, or replaced if
    ``anew`` is true. Faulty files give a refused outcome, not an exception. The text of an
    unexpected error is not repeated, because it may contain names. Only its type and line are.
    """
    start = time.perf_counter()
    try:
        store = CohortStore.open(url, writable=True)
        format_ = store.format
        made: dict[str, Any] = {
            "split": plan.split,
            "sources": plan.origin(format_),
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
                said = f"it is there already with other {' and '.join(other)}; give --replace"
                return Outcome(plan.patient, "refused", there, said)
        images, entry, masks = plan.prepared(format_, preparation)
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
    plans: Sequence[PatientPlan],
    url: str,
    preparation: Preparation,
    workers: int,
    *,
    scheduler: str | None = None,
    anew: bool = False,
) -> Iterator[Outcome]:
    """Prepare patients in parallel, and yield each outcome when it is done.

    ``workers`` is the number of processes on this machine. ``scheduler`` is the address of a
    running Dask scheduler, whose workers are used instead. A patient is refused if several
    processes died with it. For ``anew`` see :func:`prepare_patient`.
    """
    work = partial(prepare_patient, url=url, preparation=preparation, anew=anew)
    if scheduler is not None:
        yield from _on_cluster(work, plans, scheduler)
        return
    preload = type(plans[0]).__module__ if plans else __name__
    for plan, outcome in in_processes(work, plans, workers, preload):
        yield outcome or Outcome(plan.patient, "refused", reason="its process died")


def _on_cluster(
    work: Callable[[PatientPlan], Outcome], plans: Sequence[PatientPlan], scheduler: str
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
                yield Outcome(names[future], "refused", reason=f"its process died ({kind})")


def fingerprint(sources: Sequence[Source], kind: ModalityKind | None = None) -> str:
    """Return the SHA-256 of the candidates of an image, or of a mask, whose kind is None."""
    pet = kind is not None and kind.values == "suv"
    return hashlib.sha256("".join(s.fingerprint(pet) for s in sources).encode()).hexdigest()
