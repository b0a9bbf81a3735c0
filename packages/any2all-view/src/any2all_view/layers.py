"""The images that the page shows, one per modality, with overlays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]

IMAGE, TRUTH, ERROR, SPREAD = "image", "truth", "error", "spread"
MEASUREMENT = "measurement"
ERROR_END, SPREAD_END = 0.2, 0.1
"""Upper end of the colour scale of error and spread, relative to the image's window width."""
BRIGHT = 0.995
"""Quantile of the voxels above the darkest value at which an image's window ends."""


@dataclass(frozen=True)
class Layer:
    """An image or an overlay.

    ``frames`` are the names of the frames. ``read`` maps a frame's number to its volume (x, y, z).
    ``low`` and ``high`` are the values at the ends of the colour scale.
    """

    kind: str
    frames: tuple[str, ...]
    read: Callable[[int], Array]
    low: float
    high: float


@dataclass(frozen=True)
class Modality:
    """A modality with its image and overlays.

    ``layers`` has the image first. ``said`` is the caption, and ``notes`` are warnings.
    """

    name: str
    affine: Any
    layers: tuple[Layer, ...]
    said: str = ""
    unit: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Shown:
    """A patient. ``note`` is a remark that is always shown with it."""

    modalities: tuple[Modality, ...]
    note: str = ""

    def described(self) -> dict[str, Any]:
        """Return everything for the page except the volumes, without folders and patient names."""
        modalities = [
            {
                "name": m.name,
                "said": m.said,
                "unit": m.unit,
                "notes": m.notes,
                "layers": [
                    {"kind": k.kind, "frames": k.frames, "low": k.low, "high": k.high}
                    for k in m.layers
                ],
            }
            for m in self.modalities
        ]
        return {"note": self.note, "modalities": modalities}


def nifti(modalities: Sequence[Modality], modality: int, layer: int, frame: int) -> bytes:
    """Return one volume as an uncompressed NIfTI file with a new header, which names nobody.

    Raises IndexError if there is no such modality, layer or frame.
    """
    if min(modality, layer, frame) < 0:
        raise IndexError(f"{modality}, {layer}, {frame}: expected at least 0")
    chosen = modalities[modality].layers[layer]
    if frame >= len(chosen.frames):
        raise IndexError(f"frame {frame} of {len(chosen.frames)}")
    volume = np.nan_to_num(chosen.read(frame)).astype(np.float32)
    image = nib.Nifti1Image(volume, modalities[modality].affine)
    image.header.set_xyzt_units("mm")
    return image.to_bytes()


def window(volume: Array) -> tuple[float, float]:
    """Return the smallest value, and the BRIGHT quantile of the values above it."""
    values = volume[np.isfinite(volume)]
    low = float(values.min()) if values.size else 0.0
    above = values[values > low]
    return low, float(np.quantile(above, BRIGHT)) if above.size else low + 1.0


def image_layers(
    frames: tuple[str, ...],
    read: Callable[[int], Array],
    *,
    truth: Callable[[int], Array] | None = None,
    spread: Callable[[int], Array] | None = None,
    measurement: Callable[[int], Array] | None = None,
    parts: tuple[str, ...] = (),
    scale: tuple[float, float] | None = None,
) -> tuple[Layer, ...]:
    """Return an image's layer and its overlays. The error is that of the shown frame.

    ``parts`` are the names of the measurement's frames. ``scale`` are the values at the ends of
    the image's colour scale; None takes those of :func:`window`.
    """
    low, high = scale or window(read(0))
    width = high - low
    layers = [Layer(IMAGE, frames, read, low, high)]
    if truth is not None:
        layers.append(Layer(TRUTH, ("",), truth, low, high))
        error = partial(_error, read, truth)
        layers.append(Layer(ERROR, frames, error, 0.0, ERROR_END * width))
    if spread is not None:
        layers.append(Layer(SPREAD, ("",), spread, 0.0, SPREAD_END * width))
    if measurement is not None:
        layers.append(Layer(MEASUREMENT, parts, measurement, low, high))
    return tuple(layers)


def _error(read: Callable[[int], Array], truth: Callable[[int], Array], frame: int) -> Array:
    return np.abs(read(frame) - truth(0))
