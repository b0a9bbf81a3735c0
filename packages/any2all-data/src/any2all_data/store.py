"""A cohort as one Zarr store, with a group per patient and a chunk per slice.

    COHORT/
      zarr.json                attributes: its images (StackFormat)
      <patient>/               a salted hash
        zarr.json              attributes: see Entry; written last, when the patient is complete
        images/                float32 (Z, M, H, W) in physical units; chunks (1, M, H, W)
        masks/                 optional: uint16 labels (Z, K, H, W) of ``Entry.masks``
        drawn/                 optional: synthetic images (Z, M, H, W) of ``Entry.drawn``

A patient without attributes was interrupted, and is prepared again. A modality that a patient lacks
is 0 in ``images`` and not in ``Entry.present``. A prior can draw it (``any2all fill``): ``drawn``
has these images, MR in [0, 1] and other modalities in physical units.
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
"""Quantiles of the training group's voxels that become 0 and 1, for kinds scaled by the group."""
BINS = 2048
"""Number of bins of the histogram in which they are found."""


class CohortStore:
    """A cohort on disk, or at a URL that fsspec can open (``s3://...``)."""

    def __init__(self, group: zarr.Group, url: str) -> None:
        self._group = group
        self.url = url
        kept = _attributes(group)
        if kept.get("any2all") != FORMAT or "modalities" not in kept:
            raise UserError(f"{url}: a Zarr store, but no cohort of Any2all; choose another")
        self.virtual = bool(kept["virtual"])

    @property
    def format(self) -> StackFormat:
        """The cohort's image format, with the ranges that are already fitted."""
        return format_of(_attributes(self._group))

    @classmethod
    def create(cls, url: str, format_: StackFormat, virtual: bool = False) -> CohortStore:
        """Create a cohort, or open one with the same image format to add patients.

        ``virtual`` says that the people are simulated.
        """
        import zarr

        path = Path(url.removeprefix("file://"))
        empty = not path.exists() or (path.is_dir() and not any(path.iterdir()))
        if not is_cohort(url) and not empty:
            raise UserError(f"{url}: exists and is not a cohort; choose another")
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
        """Open a cohort. Raises UserError if there is none."""
        return cls(_opened(url, "r+" if writable else "r"), url)

    @classmethod
    def find(cls, url: str) -> CohortStore | None:
        """Open the cohort at ``url``; None if there is none."""
        try:
            return cls.open(url) if is_cohort(url) else None
        except UserError:
            return None

    def write(self, patient: str, images: Array, entry: Entry, masks: Labels | None = None) -> None:
        """Add a patient completely or not at all.

        ``images`` is (Z, M, H, W) in physical units, and ``masks`` (Z, K, H, W) of ``entry.masks``.
        """
        self._check(images, self.format.names)
        group = self._group.create_group(patient, overwrite=True)
        _keep(group, "images", images.astype(np.float32, copy=False))
        if entry.masks and masks is not None:
            _keep(group, "masks", masks)
        group.update_attributes(asdict(entry))

    def mask(self, patient: str, name: str) -> Labels | None:
        """Read a mask's labels (Z, H, W); None if it is missing or its image is not used."""
        entry = self.entry(patient)
        if entry is None or entry.masks.get(name) not in entry.present:
            return None
        place = list(entry.masks).index(name)
        return np.asarray(self.array(patient, "masks")[:, place], np.uint16)

    def write_drawn(
        self, patient: str, images: Array, modalities: Sequence[str], by: Mapping[str, Any]
    ) -> None:
        """Add a patient's drawn images (Z, M, H, W), completely or not at all.

        They are in physical units, but MR in [0, 1]. They replace those drawn before. ``by`` says
        which prior, sampler and seed drew them.
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
        """Return the complete patients, sorted by name."""
        with warnings.catch_warnings():  # Zarr warns about files of unfinished writes
            warnings.simplefilter("ignore")
            names = sorted(self._group.group_keys())
        entries = {name: self.entry(name) for name in names}
        return {name: entry for name, entry in entries.items() if entry is not None}

    def entry(self, patient: str) -> Entry | None:
        """Return one patient; None if it is missing or incomplete."""
        try:
            kept = _attributes(self._group[patient])  # type: ignore[arg-type]
        except (KeyError, ValueError):
            return None
        return Entry(**kept) if "present" in kept else None

    def update(self, patient: str, entry: Entry) -> None:
        """Replace the entry of a patient, but not its images."""
        self._group[patient].update_attributes(asdict(entry))

    def array(self, patient: str, name: str = "images") -> Any:
        """Return (Z, M, H, W), read when indexed, in physical units; MR of ``drawn`` in [0, 1]."""
        return self._group[f"{patient}/{name}"]

    def images(self, patient: str) -> Array:
        """Read (Z, M, H, W) in physical units. Absent modalities are 0."""
        return np.asarray(self.array(patient)[:], dtype=np.float32)

    def ranges(self, entry: Entry, fixed: Mapping[str, Range]) -> dict[str, Range]:
        """Return the physical values that become 0 and 1, for each modality of a patient."""
        known = {name: Range(0.0, scale) for name, scale in entry.scale.items()} | dict(fixed)
        if unknown := [name for name in entry.present if name not in known]:
            raise UserError(
                f"{self.url}: no range for {', '.join(unknown)}, because no training patient has "
                "it; prepare one with --split train"
            )
        return {name: known[name] for name in entry.present}

    def fit(self) -> dict[str, Range]:
        """Fit the ranges of kinds scaled by the training group: the quantiles TAILS of its voxels.

        They are found in histograms, so that memory does not grow with the cohort, and are stored
        in the cohort.
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
        """Read (Z, M, H, W) in [0, 1]. The patient has the modalities, or they were drawn."""
        return PatientStack(self, patient, entry, modalities)[:]

    def having(self, modalities: Sequence[str], split: Split) -> dict[str, Entry]:
        """Return the split's patients that have all of these modalities."""
        return {
            patient: entry
            for patient, entry in self.patients().items()
            if entry.split == split and set(modalities) <= set(entry.present)
        }

    def with_gaps(self, modalities: Sequence[str]) -> dict[str, tuple[Entry, list[str]]]:
        """Return {patient: (entry, missing modalities)} of train patients who lack some."""
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
        """Read all slices (N, M, H, W) of patients that show a head, in [0, 1]."""
        stacks = []
        for patient, entry in patients.items():
            stack = self.stack(patient, entry, modalities)
            stacks.append(stack[covered(stack)])
            advance()
        slices = torch.cat(stacks) if stacks else torch.zeros(0, len(modalities), 1, 1)
        if not len(slices):
            raise UserError(
                f"{self.url}: {len(patients)} patients have {', '.join(modalities)}, but no slice "
                "shows a head; see any2all cohort"
            )
        return slices


def is_cohort(url: str) -> bool:
    """Whether a path is a Zarr store or any URL, not a folder of patients."""
    path = Path(url.removeprefix("file://"))
    return "://" in url.removeprefix("file://") or (path / "zarr.json").exists()


def _opened(url: str, mode: Literal["r", "r+", "a"]) -> zarr.Group:
    try:
        import zarr
    except ImportError:
        raise UserError("cohorts need Zarr; run pip install 'any2all-data[cohort]'") from None
    if url.startswith("memory://"):
        raise UserError(f"{url}: other processes can't see it; give a folder, or s3://...")
    try:
        return zarr.open_group(url.removeprefix("file://"), mode=mode)
    except (FileNotFoundError, zarr.errors.GroupNotFoundError):
        if mode == "a":
            raise UserError(f"{url}: can't be written to; choose another") from None
        raise UserError(f"{url}: there is no cohort; make one with any2all prepare") from None
    except ImportError as error:
        raise UserError(f"{url}: {error}") from None
    except Exception as error:  # the errors of fsspec's stores have no common base class
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
