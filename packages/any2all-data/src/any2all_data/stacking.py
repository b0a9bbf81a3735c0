"""Put one patient's images on one grid: read them and register them to the reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import nibabel as nib
import numpy as np
from any2all_core.modality_kind import ModalityKind
from any2all_core.stack_format import StackFormat
from any2all_mri.intensity import mr_scale
from any2all_operators import UserError

from any2all_data.cohort_entry import NOT_DEFACED, Entry
from any2all_data.kinds import kind_for
from any2all_data.normalise import Array
from any2all_data.patient import oriented
from any2all_data.ranking import (
    doubts,
    open_questions,
    preferred_session,
    weighed,
    without_names,
)
from any2all_data.scan import Scan
from any2all_data.sources import Source

Image = nib.Nifti1Image
Candidates = Mapping[str, Sequence[Source]]
"""{modality: images}, the best first."""
Failed = dict[str, dict[int, str]]
"""{modality: {index: reason}} of candidates that can't be used."""
TALLEST = 2000.0
"""Largest plausible height of a reference in mm. A taller one is in another unit."""
MOST_DOUBTFUL = 3
"""Number of images of one modality with doubtful registration after which no other is tried."""


@dataclass(frozen=True)
class Preparation:
    """How a patient is prepared.

    - ``register``: register rigidly to the reference. Otherwise scanner coordinates are trusted.
    - ``bias_correct``: apply N4 to MR.
    - ``seed``: of the registration's random numbers.
    - ``trust_axes``: trust the axes of NIfTI without orientation, see :func:`load_nifti`.
    """

    register: bool = True
    bias_correct: bool = False
    seed: int = 0
    trust_axes: bool = False


@dataclass(frozen=True)
class _Stacking:
    """The input of one stack. ``failed`` is filled while images are tried."""

    sources: Candidates
    format: StackFormat
    preparation: Preparation
    failed: Failed

    def kind(self, name: str) -> ModalityKind:
        return kind_for(self.format[name])


@dataclass(frozen=True)
class _Read:
    """An image that was read. ``index`` is its index among the candidates of its modality."""

    kind: ModalityKind
    index: int
    scan: Scan

    @property
    def name(self) -> str:
        return self.kind.name

    @property
    def image(self) -> Image:
        return self.scan.image


@dataclass(frozen=True)
class _Reference(_Read):
    """The image to which the others are registered, and the grid of the stack."""

    grid: Image


@dataclass(frozen=True)
class _Placed:
    """An image (Z, H, W) on the grid of the stack, in physical units.

    ``quality`` is None if the image was not registered. ``scale`` is the value of MR that becomes
    1. ``native`` has the grid of the file and the pose.
    """

    index: int
    array: Array
    quality: float | None
    scale: float | None
    notes: tuple[str, ...]
    native: dict[str, Any]


def prepared(
    sources: Candidates, format_: StackFormat, preparation: Preparation
) -> tuple[Array, Entry]:
    """Put a patient's images on one grid, (Z, M, H, W) in physical units, and describe them.

    The first image of each modality that can be read and registers well is used. If none registers
    well, the best one is set aside. The entry has no sources yet, and its split is "train".

    Raises UserError if no image can be used.
    """
    work = _Stacking(sources, format_, preparation, {name: {} for name in format_.names})
    reference = _reference(work)
    stack = np.zeros((len(format_.names), *reference.grid.shape[::-1]), np.float32)
    used: dict[str, _Placed] = {}
    for channel, name in enumerate(format_.names):
        placed = _first_placed(work, name, reference)
        if placed is not None:
            stack[channel], used[name] = placed.array, placed
    if not used:
        raise UserError(_why_none(work.failed))
    entry = _entry(work, reference, used)
    return np.ascontiguousarray(stack.transpose(1, 0, 2, 3)), entry


def _entry(work: _Stacking, reference: _Reference, used: Mapping[str, _Placed]) -> Entry:
    sources, failed = work.sources, work.failed
    quality = {name: p.quality for name, p in used.items() if p.quality is not None}
    kinds = {name: work.kind(name) for name in used}
    aside = {name: q for name, q in quality.items() if _doubtful(q, (kinds[name], reference.kind))}
    wanted = work.format.known_grid.reference
    notes = [NOT_DEFACED]
    for name, placed in used.items():
        notes += [f"{name}: {note}" for note in placed.notes]
        if placed.index > 0:
            notes.append(f"{name} is another series, the first: {failed[name][0]}")
    if reference.name != wanted:
        notes.append(f"no {wanted} image; {reference.name} is the reference instead")
    choices, warnings = dict[str, list[list[str]]](), list[str]()
    for name, placed in used.items():
        session = preferred_session(sources, wanted, name)
        images = weighed(
            sources[name], kinds[name], session, used=placed.index, failed=failed[name]
        )
        if len(images) > 1:
            choices[name] = [[without_names(image), why] for image, why in images]
        said = open_questions(images) + doubts(images[0][0], kinds[name])
        warnings += [f"{name}: {sentence}" for sentence in said]
    return Entry(
        split="train",
        affine=reference.grid.affine.tolist(),
        present=[name for name in used if name not in aside],
        reference=reference.name,
        aside=aside,
        left_out={n: why[0] for n, why in failed.items() if n not in used and why},
        quality=quality,
        scale={name: p.scale for name, p in used.items() if p.scale is not None},
        notes=notes,
        choices=choices,
        warnings=warnings,
        native={name: placed.native for name, placed in used.items()},
    )


def _reference(work: _Stacking) -> _Reference:
    """Return the first readable image of the cohort's reference, or else of another modality."""
    first = work.format.known_grid.reference
    order = sorted(work.format.names, key=lambda name: name != first)
    for name in order:
        for index, source in enumerate(work.sources.get(name, ())):
            try:
                kind = work.kind(name)
                scan = _read(source, kind, work.preparation)
                return _Reference(kind, index, scan, _grid(scan.image, kind, work.format))
            except UserError as error:
                work.failed[name][index] = str(error)
    raise UserError(_why_none(work.failed))


def _read(source: Source, kind: ModalityKind, preparation: Preparation) -> Scan:
    """Read an image, and correct its bias if requested. Raises UserError if it has no signal."""
    from any2all_data.registration import bias_corrected

    scan = source.read(kind, preparation.trust_axes)
    if not kind.physical:
        if mr_scale(np.asarray(scan.image.dataobj, np.float32)) <= 0:
            raise UserError("it holds no signal, nothing above 0")
        if preparation.bias_correct:
            scan = replace(scan, image=bias_corrected(scan.image))
    return scan


def _grid(image: Image, kind: ModalityKind, format_: StackFormat) -> Image:
    from any2all_data.registration import reference_grid

    (height, width), spacing = format_.size, format_.known_grid.spacing
    if spacing is None:
        return fitted(oriented(image), (width, height))
    tall = extent(oriented(image))[2]
    if tall > TALLEST:
        raise UserError(f"{kind.name} is {tall:g} mm tall; expected at most {TALLEST:g}")
    count = max(1, round(tall / spacing[2]))
    return reference_grid(image, spacing, (width, height, count), kind)


def _first_placed(work: _Stacking, name: str, reference: _Reference) -> _Placed | None:
    """Return the first usable image, or the best of those whose registration is doubtful.

    The reasons against the images before it are added to ``work.failed``.
    """
    kind, failed = work.kind(name), work.failed[name]
    pair, doubtful = (kind, reference.kind), list[_Placed]()
    for index, source in enumerate(work.sources.get(name, ())):
        if index in failed or len(doubtful) == MOST_DOUBTFUL:
            continue
        try:
            known = (kind.name, index) == (reference.name, reference.index)
            scan = reference.scan if known else _read(source, kind, work.preparation)
            placed = _place(work, _Read(kind, index, scan), reference)
        except UserError as error:
            failed[index] = str(error)
            continue
        if placed.quality is None or not _doubtful(placed.quality, pair):
            return placed
        doubtful.append(placed)
        failed[index] = f"its registration is doubtful, quality {placed.quality:.2f}"
    return max(doubtful, key=lambda placed: placed.quality or 0.0, default=None)


def _place(work: _Stacking, read: _Read, reference: _Reference) -> _Placed:
    """Put an image on the reference's grid. Raises UserError if they do not overlap."""
    from any2all_data.registration import register, resampled

    image, grid, quality, pose = read.image, reference.grid, None, np.eye(4)
    height, width = work.format.size
    if work.preparation.register and not same_grid(image, reference.image):
        pair = (read.kind, reference.kind)
        found = register(image, reference.image, grid, work.preparation.seed, kinds=pair)
        moved, quality, pose = found.image, round(found.quality, 4), found.matrix
    elif work.format.known_grid.spacing is None and same_grid(image, reference.image):
        moved = fitted(oriented(image), (width, height))
    else:
        moved = resampled(image, grid.affine, grid.shape)
    array = np.asarray(moved.dataobj, np.float32).transpose(2, 1, 0)
    if array.max() <= array.min():
        raise UserError("it does not overlap the reference's grid")
    scale = None if read.kind.physical else mr_scale(array)
    if scale is not None and scale <= 0:
        raise UserError("it holds no signal, nothing above 0")
    native = {
        "shape": list(image.shape),
        "affine": image.affine.tolist(),
        "pose": pose.tolist(),
    }
    return _Placed(read.index, array, quality, scale, read.scan.notes, native)


def _doubtful(quality: float, kinds: tuple[ModalityKind, ModalityKind]) -> bool:
    from any2all_data.registration import quality_threshold

    return quality < quality_threshold(kinds)


def _why_none(failed: Failed) -> str:
    said = [f"{name}: {why[0]}" for name, why in failed.items() if why]
    return "; ".join(said) or "none of the cohort's modalities"


def extent(image: Image) -> tuple[float, ...]:
    """Return the size in mm along each axis."""
    steps = np.linalg.norm(image.affine[:3, :3], axis=0)
    return tuple(float(n * step) for n, step in zip(image.shape, steps, strict=True))


def fitted(image: Image, size: tuple[int, int]) -> Image:
    """Crop an image about its centre to ``size`` (x, y) voxels, or pad it with its minimum."""
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
    """Whether two images have the same shape and affine, so that they are registered already."""
    return a.shape == b.shape and np.allclose(a.affine, b.affine, rtol=1e-3, atol=1e-2)
