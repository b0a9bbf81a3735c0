"""From found scans to a cohort: read, register to the reference, put on one grid, store.

Patients are independent, and preparing one twice gives the same bytes, so they are spread over
processes by Dask and a worker that dies costs nothing but its time.
"""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import nibabel as nib
import numpy as np
from any2all_operators import UserError
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform

from any2all_data.normalise import Array, mr_scale
from any2all_data.patient import AXES
from any2all_data.sources import Source
from any2all_data.store import UNITS, CohortSettings, CohortStore, Entry, Split

Image = nib.Nifti1Image
VIRTUAL_EXTENT = 180.0
"""Of a virtual head from the lowest slice to the highest, mm."""
NOT_DEFACED = "faces are as in the source: not defaced here"


@dataclass(frozen=True)
class Preparation:
    """How a patient is prepared.

    register: rigidly to the reference, or take scanner coordinates as they are;
    bias_correct: N4 on MR; seed: of the registration's random numbers.
    """

    register: bool = True
    bias_correct: bool = False
    seed: int = 0


@dataclass(frozen=True)
class Plan:
    """A patient to prepare: its hashed name, and a source for each modality that it has."""

    patient: str
    split: Split
    sources: Mapping[str, Source]


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


def prepare_patient(plan: Plan | VirtualPlan, url: str, preparation: Preparation) -> Outcome:
    """Prepare one patient into the cohort at ``url``, unless it is there already.

    Never raises for what is wrong with a patient's files: that is its outcome. What an unexpected
    error says is not repeated, as it may hold names: only its kind and where it was.
    """
    start = time.perf_counter()
    store = CohortStore.open(url, writable=True)
    try:
        if isinstance(plan, VirtualPlan):
            sources = {"seed": str(plan.seed)}
        else:
            sources = {m: source.fingerprint() for m, source in plan.sources.items()}
        there = store.entry(plan.patient)
        if there is not None and there.sources == sources:
            return Outcome(plan.patient, "unchanged", there)
        if isinstance(plan, VirtualPlan):
            images, entry = _virtual(plan, store.settings)
        else:
            images, entry = prepared(plan.sources, store.settings, preparation)
    except UserError as error:
        return Outcome(plan.patient, "refused", reason=str(error))
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        reason = f"{type(error).__name__} at {Path(where.filename).name}:{where.lineno}"
        return Outcome(plan.patient, "refused", reason=reason)
    entry = replace(entry, split=plan.split, sources=sources)
    store.write(plan.patient, images, entry)
    return Outcome(plan.patient, "prepared", entry, seconds=time.perf_counter() - start)


def prepare_all(
    plans: Sequence[Plan | VirtualPlan],
    url: str,
    preparation: Preparation,
    workers: int,
    scheduler: str | None = None,
) -> Iterator[Outcome]:
    """Prepare patients on a Dask cluster, as they are done.

    scheduler: address of a running one; without it ``workers`` local processes. A patient whose
    workers died again and again is refused, the others go on.
    """
    try:
        from distributed import Client, LocalCluster, as_completed
    except ImportError:
        raise UserError("preparing needs Dask; run pip install 'any2all-data[cohort]'") from None
    logging.getLogger("distributed").setLevel(logging.ERROR)
    if scheduler is None:
        cluster = LocalCluster(
            n_workers=workers, threads_per_worker=1, processes=True, dashboard_address=None
        )
    try:
        client = Client(scheduler or cluster, timeout="10s")
    except OSError as error:
        raise UserError(f"--scheduler {scheduler}: no Dask scheduler answers ({error})") from None
    try:
        names = {
            client.submit(prepare_patient, plan, url, preparation, pure=False): plan.patient
            for plan in plans
        }
        for future in as_completed(names):
            if future.status == "finished":
                yield future.result()
            else:
                kind = type(future.exception()).__name__
                yield Outcome(names[future], "refused", reason=f"its process ended ({kind})")
    finally:
        client.close()
        if scheduler is None:
            cluster.close()


def prepared(
    sources: Mapping[str, Source], settings: CohortSettings, preparation: Preparation
) -> tuple[Array, Entry]:
    """A patient's images on one grid, (Z, M, H, W) in physical units, and what is said of them.

    The entry has no sources, and is of the training group. Raises UserError when none of the
    images can be used.
    """
    from any2all_data.registration import (
        QUALITY_THRESHOLD,
        bias_corrected,
        reference_grid,
        register,
        resampled,
    )

    read: dict[str, Image] = {}
    notes, left_out = [NOT_DEFACED], dict[str, str]()
    for name in settings.modalities:
        if name not in sources:
            continue
        try:
            read[name] = sources[name].read()
        except UserError as error:
            left_out[name] = str(error)
    if not read:
        said = "; ".join(f"{name}: {why}" for name, why in left_out.items())
        raise UserError(said or "none of the cohort's modalities")
    reference = settings.reference if settings.reference in read else next(iter(read))
    if reference != settings.reference:
        notes.append(f"no {settings.reference}; {reference} is the reference")
    if preparation.bias_correct:
        read = {m: image if m in UNITS else bias_corrected(image) for m, image in read.items()}
    height, width = settings.size
    if settings.spacing is None:
        grid = fitted(oriented(read[reference]), (width, height))
    else:
        count = max(1, round(extent(oriented(read[reference]))[2] / settings.spacing[2]))
        grid = reference_grid(read[reference], settings.spacing, (width, height, count))
    stack = np.zeros((len(settings.modalities), *grid.shape[::-1]), np.float32)
    usable, quality, scale = list[str](), dict[str, float](), dict[str, float]()
    for name, image in read.items():
        try:
            if preparation.register and not same_grid(image, read[reference]):
                found = register(image, read[reference], grid, preparation.seed)
                moved, quality[name] = found.image, round(found.quality, 4)
            elif settings.spacing is None and same_grid(image, read[reference]):
                moved = fitted(oriented(image), (width, height))
            else:
                moved = resampled(image, grid.affine, grid.shape)
        except UserError as error:
            left_out[name] = str(error)
            continue
        array = np.asarray(moved.dataobj, np.float32).transpose(2, 1, 0)
        if array.max() <= array.min():
            left_out[name] = "nothing of it lies on the reference's grid"
            continue
        if name not in UNITS:
            scale[name] = mr_scale(array)
        stack[settings.modalities.index(name)] = array
        usable.append(name)
    if not usable:
        raise UserError("; ".join(f"{name}: {why}" for name, why in left_out.items()))
    aside = {name: q for name, q in quality.items() if q < QUALITY_THRESHOLD and name in usable}
    entry = Entry(
        split="train",
        affine=grid.affine.tolist(),
        present=[name for name in usable if name not in aside],
        reference=reference,
        aside=aside,
        left_out=left_out,
        quality=quality,
        scale=scale,
        notes=notes,
    )
    return np.ascontiguousarray(stack.transpose(1, 0, 2, 3)), entry


def _virtual(plan: VirtualPlan, settings: CohortSettings) -> tuple[Array, Entry]:
    from any2all_data.virtual import virtual_person

    height, width = settings.size
    assert settings.spacing is not None
    depth = round(VIRTUAL_EXTENT / settings.spacing[2])
    person = virtual_person(plan.seed, spacing=settings.spacing, shape=(width, height, depth))
    turned = {m: oriented(person.images[m]) for m in settings.modalities}
    images = np.stack(
        [np.asarray(turned[m].dataobj, np.float32).transpose(2, 1, 0) for m in turned], 1
    )
    entry = Entry(
        split="train",
        affine=next(iter(turned.values())).affine.tolist(),
        present=list(settings.modalities),
        reference=settings.reference,
        scale={
            name: mr_scale(images[:, m])
            for m, name in enumerate(settings.modalities)
            if name not in UNITS
        },
        notes=["virtual: simulated, no such person exists"],
    )
    return images, entry


def oriented(image: Image) -> Image:
    """The same image with its axes in the order and direction nearest to (L, P, S)."""
    return image.as_reoriented(ornt_transform(io_orientation(image.affine), axcodes2ornt(AXES)))


def extent(image: Image) -> tuple[float, ...]:
    """mm along each axis."""
    steps = np.linalg.norm(image.affine[:3, :3], axis=0)
    return tuple(float(n * step) for n, step in zip(image.shape, steps, strict=True))


def fitted(image: Image, size: tuple[int, int]) -> Image:
    """Cut, or padded with its least value, about the centre to ``size`` (x, y), its place kept."""
    array, affine = np.asarray(image.dataobj, np.float32), image.affine.copy()
    for axis, wanted in enumerate(size):
        first = array.shape[axis] // 2 - wanted // 2
        index = np.arange(first, first + wanted)
        inside = (index >= 0) & (index < array.shape[axis])
        array = np.take(array, index.clip(0, array.shape[axis] - 1), axis)
        inside = inside.reshape([-1 if k == axis else 1 for k in range(3)])
        array = np.where(inside, array, array.min())
        affine[:3, 3] += first * affine[:3, axis]
    return nib.Nifti1Image(array, affine)


def same_grid(a: Image, b: Image) -> bool:
    """Whether two images share shape and place, and so are registered already."""
    return a.shape == b.shape and np.allclose(a.affine, b.affine, rtol=1e-3, atol=1e-2)
