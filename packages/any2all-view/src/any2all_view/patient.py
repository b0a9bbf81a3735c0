"""Open the patient to show: a folder written by ``sample``, COHORT/PATIENT, or NIfTI files."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from any2all_data.cohort_entry import Entry
from any2all_data.store import CohortStore, is_cohort
from any2all_operators import UserError

from any2all_view.layers import (
    MEASUREMENT,
    SPREAD,
    TRUTH,
    Array,
    Layer,
    Modality,
    Shown,
    image_layers,
    window,
)

SUFFIXES = (".nii.gz", ".nii")
DETAILS = "details"
"""Folder in which ``sample`` writes the truth, the draws and the measurement."""
VIRTUAL = "a virtual person, simulated; no such person exists"
EXPECTED = "expected a folder written by any2all sample, COHORT/PATIENT, or a folder of NIfTI"


def open_patient(path: str) -> Shown:
    """Find a patient's images. Raises UserError if there are none."""
    url, _, name = path.rstrip("/").rpartition("/")
    if url and is_cohort(url):
        return _of_cohort(CohortStore.open(url), name)
    if is_cohort(path):
        names = list(CohortStore.open(path).patients())
        raise UserError(
            f"{path}: a cohort; name a patient, for example {path}/{(names or ['PATIENT'])[0]}"
        )
    folder = Path(path)
    if not folder.is_dir():
        raise UserError(f"{path}: no such folder; {EXPECTED}")
    if draws := sorted(folder.glob("draw_*/")):
        return _of_new_people(draws)
    files = _files(folder)
    if not files:
        raise UserError(f"{path}: {_instead(folder)}")
    return _of_folder(folder, files)


def _of_folder(folder: Path, files: Mapping[str, Path]) -> Shown:
    """Return the images with their files in details/ and the entries of report.json."""
    report = _report(folder / "report.json")
    details = _files(folder / DETAILS) if (folder / DETAILS).is_dir() else {}
    judged = report.get("modalities", {})
    spreads = {f"{name}_std" for name in files} & set(files)
    order = [*(m for m in judged if m in files), *(m for m in files if m not in judged)]
    modalities = []
    for name in (m for m in order if m not in spreads):
        image, entry = _load(files[name]), judged.get(name, {})
        paths = {what: details.get(f"{name}_{what}") for what in ("draws", TRUTH, MEASUREMENT)}
        paths[SPREAD] = files.get(f"{name}_std")
        beside = {what: _load(path, like=image) for what, path in paths.items() if path}
        notes = [entry.get("held_out_says"), *entry.get("warnings", [])]
        modalities.append(
            Modality(
                name,
                image.affine,
                _layers(image, beside, entry.get("scale")),
                _said(entry),
                entry.get("unit", ""),
                tuple(note for note in notes if note),
            )
        )
    return Shown(tuple(modalities), report.get("patient", ""))


def _layers(
    image: nib.Nifti1Image, beside: Mapping[str, nib.Nifti1Image], scale: list[float] | None
) -> tuple[Layer, ...]:
    """Return an image's layers, with the files beside it."""
    count = _frames(image)
    names = tuple(f"{k + 1} of {count}" for k in range(count)) if count > 1 else ("",)
    read: Callable[[int], Array] = partial(_volume, image)
    if "draws" in beside and count == 1:
        count = _frames(beside["draws"])
        names = (f"mean of {count}", *(f"draw {k + 1} of {count}" for k in range(count)))
        read = partial(_mean_or_draw, image, beside["draws"])
    found = {what: partial(_volume, file) for what, file in beside.items()}
    parts = _parts_of_kspace(_frames(beside[MEASUREMENT])) if MEASUREMENT in beside else ()
    return image_layers(
        names,
        read,
        truth=found.get(TRUTH),
        spread=found.get(SPREAD),
        measurement=found.get(MEASUREMENT),
        parts=parts,
        scale=(scale[0], scale[1]) if scale else None,
    )


def _of_new_people(folders: list[Path]) -> Shown:
    """Return stacks of new people, one frame per draw."""
    modalities = []
    for name in _files(folders[0]):
        images = [_load(_files(folder)[name]) for folder in folders]
        names = tuple(f"draw {k + 1} of {len(images)}" for k in range(len(images)))
        layers = image_layers(names, partial(_one_of, images))
        modalities.append(Modality(name, images[0].affine, layers, "drawn without input"))
    return Shown(tuple(modalities), "people who do not exist")


def _of_cohort(store: CohortStore, name: str) -> Shown:
    """Return a cohort patient's images (present, set aside or drawn), with masks as overlays."""
    entry = store.entry(name)
    if entry is None:
        raise UserError(f"{store.url}: no patient {name}; any2all cohort {store.url} lists them")
    masks = [
        Layer(f"mask {mask}", ("",), _stored(store, name, "masks", k), 0.0, 1.0)
        for k, mask in enumerate(entry.masks)
    ]
    modalities = []
    names = store.format.names
    there = [m for m in names if m in entry.present or m in entry.aside]
    places = [(m, "images", names.index(m)) for m in there]
    places += [(m, "drawn", k) for k, m in enumerate(entry.drawn) if m not in there]
    affine = np.array(entry.affine)
    for modality, array, place in places:
        read = _stored(store, name, array, place)
        layers = (Layer("image", ("",), read, *window(read(0))), *masks)
        said = "drawn: synthetic" if array == "drawn" else _quality(entry, modality)
        unit = store.format[modality].unit if modality in names else ""
        modalities.append(Modality(modality, affine, layers, said, unit))
    if not modalities:
        raise UserError(f"{store.url}/{name}: no image of this patient could be used")
    return Shown(tuple(modalities), VIRTUAL if store.virtual else "")


def _quality(entry: Entry, modality: str) -> str:
    if modality in entry.aside:
        return f"set aside: registration quality {entry.aside[modality]:.2f}"
    if modality in entry.quality:
        return f"registration quality {entry.quality[modality]:.2f}"
    return "reference" if modality == entry.reference else ""


def _said(entry: Mapping[str, Any]) -> str:
    """Format a caption: kspace, R = 3.2, simulated from the truth; PSNR 32.9 dB, SSIM 0.918."""
    if not entry:
        return ""
    operator, source = entry.get("operator", ""), entry.get("source", "")
    made = "synthesised, not measured" if source == "missing" else f"{operator}, {source}"
    said = [operator if operator == source != "missing" else made]
    if "effective_acceleration" in entry:
        said.append(f"R = {entry['effective_acceleration']:.1f}")
    if "score" in entry and source != "measured":
        said.append(f"PSNR {entry['score']['psnr']:.1f} dB, SSIM {entry['score']['ssim']:.3f}")
    if "score_copy" in entry:
        copy = entry["score_copy"]
        said.append(f"a copy of {copy['of']} {copy['psnr']:.1f} dB, SSIM {copy['ssim']:.3f}")
    return "; ".join(said)


def _parts_of_kspace(count: int) -> tuple[str, ...]:
    """Name the frames, each of which shows a larger part of k-space."""
    if count == 1:
        return ("",)
    return tuple(f"zero-filled, inner {k / count:.0%} of k-space" for k in range(1, count + 1))


def _files(folder: Path) -> dict[str, Path]:
    """Return {modality: NIfTI file} of a folder, sorted."""
    return {
        path.name.removesuffix(end): path
        for path in sorted(folder.iterdir())
        for end in SUFFIXES
        if path.name.endswith(end)
    }


def _instead(folder: Path) -> str:
    """Say what a folder without NIfTI files has, and what to do."""
    patients = sorted({path.parent for end in SUFFIXES for path in folder.glob(f"*/*{end}")})
    if patients:
        return f"has the folders of {len(patients)} patients; name one, for example {patients[0]}"
    return f"no NIfTI file in it; {EXPECTED}"


def _report(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        return dict(json.loads(path.read_text()))
    except ValueError:
        raise UserError(f"{path}: not readable as JSON; sample again, or remove the file") from None


def _load(path: Path, like: nib.Nifti1Image | None = None) -> nib.Nifti1Image:
    """Open a NIfTI file, read later on demand. Raises UserError if its grid is not ``like``'s."""
    try:
        image = nib.load(path)
    except Exception as error:  # nibabel's errors have no common base class
        raise UserError(f"{path}: not readable as NIfTI ({error})") from None
    if not isinstance(image, nib.Nifti1Image) or len(image.shape) not in (3, 4):
        raise UserError(f"{path}: expected a NIfTI file of 3 axes, or 4 with frames")
    if like is not None and image.shape[:3] != like.shape[:3]:
        raise UserError(f"{path}: shape {image.shape}, but its image has {like.shape}")
    return image


def _frames(image: nib.Nifti1Image) -> int:
    return image.shape[3] if len(image.shape) == 4 else 1


def _volume(image: nib.Nifti1Image, frame: int) -> Array:
    """Return the volume (x, y, z) of one frame."""
    values = image.dataobj[..., frame] if len(image.shape) == 4 else image.dataobj
    return np.asarray(values, np.float32)


def _mean_or_draw(mean: nib.Nifti1Image, draws: nib.Nifti1Image, frame: int) -> Array:
    return _volume(draws, frame - 1) if frame else _volume(mean, 0)


def _one_of(images: list[nib.Nifti1Image], frame: int) -> Array:
    return _volume(images[frame], 0)


def _stored(store: CohortStore, name: str, array: str, place: int) -> Callable[[int], Array]:
    """Return a function that reads (x, y, z) of a cohort's image, which has only one frame."""
    return lambda frame: np.asarray(store.array(name, array)[:, place], np.float32).T
