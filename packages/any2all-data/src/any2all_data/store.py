"""A cohort as one Zarr store: a group a patient, a chunk a slice.

    COHORT/
      zarr.json                attributes: its images (StackFormat)
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
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from any2all_core.stack_format import Range, StackFormat
from any2all_operators import UserError
from torch import Tensor

from any2all_data.cohort_entry import Entry, Split
from any2all_data.cohort_format import attributes_of, differences, format_of
from any2all_data.cohort_slices import PatientStack
from any2all_data.coverage import covered
from any2all_data.normalise import Array, constants

if TYPE_CHECKING:
    import zarr

FORMAT = 1
Labels = npt.NDArray[np.uint16]
TAILS = (0.001, 0.999)
"""Quantiles of the training group's voxels that become 0 and 1, where a kind is scaled by it."""
BINS = 2048
"""Of the histogram that they are found in."""


class CohortStore:
    """A cohort on disk, or anywhere that fsspec reaches (``s3://...``)."""

    def __init__(self, group: zarr.Group, url: str) -> None:
        self._group = group
        self.url = url
        kept = _attributes(group)
        if kept.get("any2all") != FORMAT or "modalities" not in kept:
            raise UserError(f"{url}: a Zarr store, but no cohort of Any2all; choose another")
        self.virtual = bool(kept["virtual"])

    @property
    def format(self) -> StackFormat:
        """The cohort's images; ranges of the training group as far as they are fitted."""
        return format_of(_attributes(self._group))

    @classmethod
    def create(cls, url: str, format_: StackFormat, virtual: bool = False) -> CohortStore:
        """A new cohort, or one that is there with the same images, to append to.

        virtual: made by simulation, no such people exist.
        """
        import zarr

        path = Path(url.removeprefix("file://"))
        empty = not path.exists() or (path.is_dir() and not any(path.iterdir()))
        if not is_cohort(url) and not empty:
            raise UserError(f"{url}: there already, and no cohort; choose another")
        group, asked = _opened(url, "a"), attributes_of(format_, virtual)
        if "any2all" in group.attrs:
            store = cls(group, url)
            there = attributes_of(store.format, store.virtual)
            if differing := differences(there, asked):
                raise UserError(f"{url}: this cohort has {'; '.join(differing)}; choose another")
            return store
        if len(list(group.members())):
            raise UserError(f"{url}: a Zarr store, but no cohort of Any2all; choose another")
        group.update_attributes({"any2all": FORMAT, **asked})
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
        self._check(images, self.format.names)
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
        expected = (len(modalities), *self.format.size)
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
        """Ranges of the kinds that are scaled by the training group: quantiles TAILS of its voxels.

        Found in histograms, so that memory does not grow with the cohort; kept in the cohort.
        """
        entries = {p: e for p, e in self.patients().items() if e.split == "train"}
        fitted, format_ = {}, self.format
        for channel, modality in enumerate(format_.modalities):
            having = [p for p, e in entries.items() if modality.name in e.present]
            if modality.scaling == "group" and having:
                fitted[modality.name] = self._quantiles(channel, having)
        kept = {name: constants(values, format_[name].unit) for name, values in fitted.items()}
        self._group.update_attributes({"normalisation": kept})
        return fitted

    def _quantiles(self, channel: int, patients: Sequence[str]) -> Range:
        lows, highs = zip(*(_extremes(self.images(p)[:, channel]) for p in patients), strict=True)
        edges = np.linspace(min(lows), max(highs), BINS + 1)
        counts = sum(np.histogram(self.images(p)[:, channel], edges)[0] for p in patients)
        share = np.cumsum(counts) / np.sum(counts)
        first, last = (int(np.searchsorted(share, tail)) for tail in TAILS)
        return Range(float(edges[first]), float(edges[min(last + 1, BINS)]))

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
        wanted = [m for m in modalities if m in self.format.names]
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
