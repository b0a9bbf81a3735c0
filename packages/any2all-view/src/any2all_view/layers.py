"""What is shown of a patient: each modality's image, and what can lie over it."""

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
"""Where the colours of an error and of a spread end, of the width of the image's window."""
BRIGHT = 0.995
"""Quantile of the voxels above the darkest value at which an image's window ends."""


@dataclass(frozen=True)
class Layer:
    """An image, or what lies over it.

    ``frames``: what each one is called; ``read``: a frame's number to its volume (x, y, z);
    ``low``, ``high``: the values at the ends of its colours.
    """

    kind: str
    frames: tuple[str, ...]
    read: Callable[[int], Array]
    low: float
    high: float


@dataclass(frozen=True)
class Modality:
    """``layers``: the image first; ``said``: a line about it; ``notes``: sentences to be read."""

    name: str
    affine: Any
    layers: tuple[Layer, ...]
    said: str = ""
    unit: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Shown:
    """A patient. ``note``: what has to be said of it wherever it is shown."""

    modalities: tuple[Modality, ...]
    note: str = ""

    def described(self) -> dict[str, Any]:
        """For the page: everything but the volumes. No folder, no patient's name."""
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
    """One volume as an uncompressed NIfTI file with a header of its own, which names nobody.

    Raises IndexError where there is no such modality, layer or frame.
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
    """The least value, and the BRIGHT quantile of what is above it."""
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
    """An image with what is known of it; the error is that of the frame that is shown.

    parts: what the frames of the measurement are called; scale: the values at the ends of the
    image's colours, those of :func:`window` for None.
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
