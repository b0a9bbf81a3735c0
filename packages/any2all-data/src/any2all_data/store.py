"""A cohort as one Zarr store: a group a patient, a chunk a slice.

    COHORT/
      zarr.json                attributes: see CohortSettings
      <patient>/               a salted hash
        zarr.json              attributes: see Entry; written last, which makes the patient complete
        images/                float32 (Z, M, H, W) in physical units; chunks (1, M, H, W)
        masks/                 uint16 labels, likewise, of the masks ``Entry.masks``; not always
        drawn/                 likewise, of the modalities ``Entry.drawn``; synthetic; not always

A patient whose attributes are not there was cut short, and is prepared again. Modalities that a
patient lacks are 0 in ``images`` and absent from ``present``; a prior may have drawn them from
those that are there (``any2all fill``), which ``drawn`` keeps apart, MR as a share of full scale.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import torch
from any2all_operators import UserError
from torch import Tensor

from any2all_data.cohort import covered
from any2all_data.normalise import MR_NORMALISATION, Array, Range, constants, fixed_range

if TYPE_CHECKING:
    import zarr

FORMAT = 1
Labels = npt.NDArray[np.uint16]
Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
UNITS = {"CT": "HU", "CBCT": "HU", "PET": "SUV g/ml"}
"""Of modalities that are not in arbitrary units."""
TAILS = (0.001, 0.999)
"""Quantiles of the training group's voxels that become 0 and 1, where the unit is physical."""
BINS = 2048
"""Of the histogram that they are found in."""


@dataclass(frozen=True)
class CohortSettings:
    """What all patients of a cohort have in common.

    spacing: mm of (x, y, z) voxels, or None where every patient keeps that of its reference;
    size: (H, W); virtual: made by simulation, no such people exist.
    """

    modalities: tuple[str, ...]
    size: tuple[int, int]
    spacing: tuple[float, float, float] | None = None
    reference: str = "T1"
    virtual: bool = False


@dataclass(frozen=True)
class Entry:
    """One patient: what is known beside the images.

    affine: (4, 4), voxel (x, y, z) along (L, P, S) to mm; present: modalities that are there and
    good; reference: the modality whose place the others were moved to; aside: {modality: quality}
    of those whose registration is doubtful, kept for a human's look and not used; left_out:
    {modality: why} of those that could not be used; scale: {modality: value that becomes 1} of MR;
    sources: SHA-256 of the files each modality was made of; preparation: the options it was
    prepared with; notes: what else is worth saying; choices: {modality: [(image, why)]} of those
    that have several images, the one that is used first, named without a patient's name; warnings:
    sentences that a user has to read, such as what nothing decided; drawn: absent modalities of
    which there are synthetic images, drawn_by: what drew them (prior, sampler, seed); native:
    {modality: the grid of its file, and the pose, a point of the reference in mm to one of the
    image in mm (RAS)}; masks: {mask: the modality whose file it lay on}, of lesions and the like.
    """

    split: Split
    affine: list[list[float]]
    present: list[str]
    reference: str = ""
    aside: dict[str, float] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    quality: dict[str, float] = field(default_factory=dict)
    scale: dict[str, float] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)
    preparation: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    choices: dict[str, list[list[str]]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    drawn: list[str] = field(default_factory=list)
    drawn_by: dict[str, Any] = field(default_factory=dict)
    native: dict[str, dict[str, Any]] = field(default_factory=dict)
    masks: dict[str, str] = field(default_factory=dict)


class CohortStore:
    """A cohort on disk, or anywhere that fsspec reaches (``s3://...``)."""

    def __init__(self, group: zarr.Group, url: str) -> None:
        self._group = group
        self.url = url
        kept = _attributes(group)
        if kept.get("any2all") != FORMAT or "modalities" not in kept:
            raise UserError(f"{url}: a Zarr store, but no cohort of Any2all; choose another")
        self.settings = CohortSettings(
            modalities=tuple(kept["modalities"]),
            size=tuple(kept["size"]),
            spacing=tuple(kept["spacing"]) if kept["spacing"] else None,
            reference=kept["reference"],
            virtual=kept["virtual"],
        )

    @classmethod
    def create(cls, url: str, settings: CohortSettings) -> CohortStore:
        """A new cohort, or one that is there with the same settings, to append to."""
        import zarr

        path = Path(url.removeprefix("file://"))
        empty = not path.exists() or (path.is_dir() and not any(path.iterdir()))
        if not is_cohort(url) and not empty:
            raise UserError(f"{url}: there already, and no cohort; choose another")
        group = _opened(url, "a")
        if "any2all" in group.attrs:
            store = cls(group, url)
            if store.settings != settings:
                differing = [
                    f"{name} {getattr(store.settings, name)}, not {getattr(settings, name)}"
                    for name in asdict(settings)
                    if getattr(store.settings, name) != getattr(settings, name)
                ]
                raise UserError(f"{url}: this cohort has {'; '.join(differing)}; choose another")
            return store
        if len(list(group.members())):
            raise UserError(f"{url}: a Zarr store, but no cohort of Any2all; choose another")
        group.update_attributes({"any2all": FORMAT, **asdict(settings)})
        assert isinstance(group, zarr.Group)
        return cls(group, url)

    @classmethod
    def open(cls, url: str, writable: bool = False) -> CohortStore:
        """A cohort that is there. Raises UserError when there is none."""
        return cls(_opened(url, "r+" if writable else "r"), url)

    @classmethod
    def find(cls, url: str) -> CohortStore | None:
        """The cohort at ``url``, None where there is none."""
        try:
            return cls.open(url) if is_cohort(url) else None
        except UserError:
            return None

    def write(self, patient: str, images: Array, entry: Entry, masks: Labels | None = None) -> None:
        """Add a patient, whole or not at all.

        images: (Z, M, H, W) in physical units; masks: (Z, K, H, W) of ``entry.masks``.
        """
        self._check(images, self.settings.modalities)
        group = self._group.create_group(patient, overwrite=True)
        _keep(group, "images", images.astype(np.float32, copy=False))
        if entry.masks and masks is not None:
            _keep(group, "masks", masks)
        group.update_attributes(asdict(entry))

    def mask(self, patient: str, name: str) -> Labels | None:
        """Labels (Z, H, W) of a mask; None where the patient has none, or its image is not used."""
        entry = self.entry(patient)
        if entry is None or entry.masks.get(name) not in entry.present:
            return None
        place = list(entry.masks).index(name)
        return np.asarray(self.array(patient, "masks")[:, place], np.uint16)

    def write_drawn(
        self, patient: str, images: Array, modalities: Sequence[str], by: Mapping[str, Any]
    ) -> None:
        """Add what ``by`` has drawn of a patient, (Z, M, H, W); all of it or nothing.

        In physical units; MR in [0, 1]. What was drawn of it before is replaced.
        """
        self._check(images, modalities)
        group = self._group[patient]
        group.update_attributes({"drawn": [], "drawn_by": {}})
        _keep(group, "drawn", images.astype(np.float32, copy=False))  # type: ignore[arg-type]
        group.update_attributes({"drawn": list(modalities), "drawn_by": dict(by)})

    def _check(self, images: Array, modalities: Sequence[str]) -> None:
        expected = (len(modalities), *self.settings.size)
        if images.shape[1:] != expected:
            raise ValueError(f"images {images.shape}, expected (Z, {expected})")

    def patients(self) -> dict[str, Entry]:
        """The complete patients, sorted."""
        with warnings.catch_warnings():  # of the file of a write that goes on, or was cut short
            warnings.simplefilter("ignore")
            names = sorted(self._group.group_keys())
        entries = {name: self.entry(name) for name in names}
        return {name: entry for name, entry in entries.items() if entry is not None}

    def entry(self, patient: str) -> Entry | None:
        """One patient, or None where it is not there or was cut short."""
        try:
            kept = _attributes(self._group[patient])  # type: ignore[arg-type]
        except (KeyError, ValueError):
            return None
        return Entry(**kept) if "present" in kept else None

    def update(self, patient: str, entry: Entry) -> None:
        """Change what is said of a patient, not its images."""
        self._group[patient].update_attributes(asdict(entry))

    def array(self, patient: str, name: str = "images") -> Any:
        """(Z, M, H, W) in physical units, read as it is indexed; of ``drawn`` MR is in [0, 1]."""
        return self._group[f"{patient}/{name}"]

    def images(self, patient: str) -> Array:
        """(Z, M, H, W) in physical units; 0 where a modality is absent."""
        return np.asarray(self.array(patient)[:], dtype=np.float32)

    def fixed(self) -> dict[str, Range]:
        """The ranges of modalities that have one for all patients."""
        found = {m: fixed_range(kept) for m, kept in self.normalisation().items()}
        return {m: values for m, values in found.items() if values is not None}

    def ranges(self, entry: Entry, fixed: Mapping[str, Range]) -> dict[str, Range]:
        """The physical values that become 0 and 1 for each modality that a patient has."""
        known = {name: Range(0.0, scale) for name, scale in entry.scale.items()} | dict(fixed)
        if unknown := [name for name in entry.present if name not in known]:
            raise UserError(
                f"{self.url}: no constants for {', '.join(unknown)}, as no training patient has "
                "it; prepare one with --split train"
            )
        return {name: known[name] for name in entry.present}

    def fit(self) -> dict[str, Range]:
        """Ranges of the modalities with a physical unit: quantiles TAILS of the training group.

        Found in histograms, so that memory does not grow with the cohort; kept in the cohort.
        """
        entries = {p: e for p, e in self.patients().items() if e.split == "train"}
        fitted = {}
        for name in UNITS:
            having = [p for p, e in entries.items() if name in e.present]
            if name not in self.settings.modalities or not having:
                continue
            channel = self.settings.modalities.index(name)
            lows, highs = zip(*(_extremes(self.images(p)[:, channel]) for p in having), strict=True)
            edges = np.linspace(min(lows), max(highs), BINS + 1)
            counts = sum(np.histogram(self.images(p)[:, channel], edges)[0] for p in having)
            share = np.cumsum(counts) / np.sum(counts)
            first, last = (int(np.searchsorted(share, tail)) for tail in TAILS)
            fitted[name] = Range(float(edges[first]), float(edges[min(last + 1, BINS)]))
        kept = {name: constants(values, UNITS[name]) for name, values in fitted.items()}
        self._group.update_attributes({"normalisation": kept})
        return fitted

    def normalisation(self) -> dict[str, dict[str, Any]]:
        """How each modality becomes [0, 1], as a prior keeps it."""
        kept = _attributes(self._group).get("normalisation", {})
        return {m: kept.get(m, MR_NORMALISATION) for m in self.settings.modalities}

    def stack(self, patient: str, entry: Entry, modalities: Sequence[str]) -> Tensor:
        """(Z, M, H, W) in [0, 1] of modalities that the patient has, or that were drawn of it."""
        return PatientStack(self, patient, entry, modalities)[:]

    def having(self, modalities: Sequence[str], split: Split) -> dict[str, Entry]:
        """The split's patients that have all of these modalities."""
        return {
            patient: entry
            for patient, entry in self.patients().items()
            if entry.split == split and set(modalities) <= set(entry.present)
        }

    def with_gaps(self, modalities: Sequence[str]) -> dict[str, tuple[Entry, list[str]]]:
        """{patient of train: entry, what it lacks} of those who have some and lack others."""
        wanted = [m for m in modalities if m in self.settings.modalities]
        found = {}
        for patient, entry in self.patients().items():
            missing = [m for m in wanted if m not in entry.present]
            if entry.split == "train" and missing and len(missing) < len(wanted):
                found[patient] = entry, missing
        return found

    def slices(
        self,
        patients: Mapping[str, Entry],
        modalities: Sequence[str],
        advance: Callable[[], None] = lambda: None,
    ) -> Tensor:
        """All covered slices (N, M, H, W) of patients, in [0, 1]."""
        stacks = []
        for patient, entry in patients.items():
            stack = self.stack(patient, entry, modalities)
            stacks.append(stack[covered(stack)])
            advance()
        slices = torch.cat(stacks) if stacks else torch.zeros(0, len(modalities), 1, 1)
        if not len(slices):
            raise UserError(
                f"{self.url}: {len(patients)} patients with {', '.join(modalities)}, and no slice "
                "of a head in them; see any2all cohort"
            )
        return slices


class PatientStack:
    """A patient's images in [0, 1], measured or drawn, read as they are indexed by slice.

    NaN where there is neither.
    """

    def __init__(
        self,
        store: CohortStore,
        patient: str,
        entry: Entry,
        modalities: Sequence[str],
        drawn: bool = True,
    ) -> None:
        """drawn: whether what a prior has drawn stands for what the patient lacks."""
        fixed = store.fixed()
        ranges = store.ranges(entry, fixed)
        self._parts: list[tuple[str, int, Range] | None] = []
        for m in modalities:
            if m in entry.present:
                place = store.settings.modalities.index(m)
                self._parts.append(("images", place, ranges[m]))
            elif m in entry.drawn and drawn:
                full_scale = Range(0.0, 1.0)
                self._parts.append(("drawn", entry.drawn.index(m), fixed.get(m, full_scale)))
            else:
                self._parts.append(None)
        self._arrays = {part[0]: store.array(patient, part[0]) for part in self._parts if part}

    def __getitem__(self, z: int | slice) -> Tensor:
        """(M, H, W) of one slice, (Z, M, H, W) of many."""
        values = {name: array[z] for name, array in self._arrays.items()}
        some = next(iter(values.values()))[..., 0, :, :]
        nothing = np.full_like(some, np.nan, dtype=np.float32)
        images = [
            part[2].normalise(values[part[0]][..., part[1], :, :]) if part else nothing
            for part in self._parts
        ]
        return torch.from_numpy(np.stack(images, -3))


class CohortSlices:
    """The covered slices of patients; NaN where a patient lacks an image and it was not drawn.

    Read from the cohort when they are asked for: memory does not grow with it.
    """

    def __init__(
        self,
        store: CohortStore,
        patients: Mapping[str, Entry],
        modalities: Sequence[str],
        advance: Callable[[], None] = lambda: None,
        drawn: bool = True,
    ) -> None:
        self._stacks: list[PatientStack] = []
        self._places: list[tuple[int, int]] = []
        for k, (patient, entry) in enumerate(patients.items()):
            stack = PatientStack(store, patient, entry, modalities, drawn)
            self._stacks.append(stack)
            self._places += [(k, int(z)) for z in covered(stack[:]).nonzero()]
            advance()
        if not self._places:
            raise UserError(f"{store.url}: no slice of a head in {len(patients)} patients")

    def __len__(self) -> int:
        return len(self._places)

    def read(self, indices: Sequence[int]) -> Tensor:
        """Stacks (B, M, H, W) in [0, 1]."""
        return torch.stack([self._stacks[k][z] for k, z in (self._places[i] for i in indices)])


def is_cohort(url: str) -> bool:
    """Whether it is a Zarr store or the URL of one, and not a folder of patients."""
    path = Path(url.removeprefix("file://"))
    return "://" in url.removeprefix("file://") or (path / "zarr.json").exists()


def _opened(url: str, mode: Literal["r", "r+", "a"]) -> zarr.Group:
    try:
        import zarr
    except ImportError:
        raise UserError("cohorts need Zarr; run pip install 'any2all-data[cohort]'") from None
    if url.startswith("memory://"):
        raise UserError(f"{url}: is seen by one process alone; give a folder, or s3://...")
    try:
        return zarr.open_group(url.removeprefix("file://"), mode=mode)
    except (FileNotFoundError, zarr.errors.GroupNotFoundError):
        if mode == "a":
            raise UserError(f"{url}: can't be written to; choose another") from None
        raise UserError(f"{url}: no cohort there; make one with any2all prepare") from None
    except ImportError as error:
        raise UserError(f"{url}: {error}") from None
    except Exception as error:  # of whatever store: fsspec's have no common base
        what = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{url}: not readable as a cohort ({what})") from None


def _keep(group: zarr.Group, name: str, images: Array | Labels) -> None:
    array = group.create_array(
        name, shape=images.shape, chunks=(1, *images.shape[1:]), dtype=images.dtype, overwrite=True
    )
    array[:] = images


def _attributes(group: zarr.Group) -> dict[str, Any]:
    return dict(group.attrs)


def _extremes(values: Array) -> tuple[float, float]:
    return float(values.min()), float(values.max())
