"""Describe the look of images, to tell whether they are like those of a model's training.

Five numbers describe an image. They do not depend on the number of slices, and they differ between
a whole head and a skull-stripped one, between contrasts, and between scanners. The range of each
number over the training patients is kept with a model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from torch import Tensor

from any2all_data.coverage import COVERAGE, SIGNAL

Array = npt.NDArray[np.float32]
Look = dict[str, float]
Ranges = Mapping[str, tuple[float, float]]

SLICES = 12
"""Number of slices that describe an image, evenly spread over those that show a head."""
FEWEST_SLICES, FEWEST_PATIENTS = 3, 10
"""With fewer slices, or fewer training patients, no image is judged."""
TAIL, WIDENED = 0.05, 0.75
"""A range goes from the 5 % to the 95 % quantile of the patients. An image is outside if it is
farther from the range than 0.75 times its width. With the ranges of ``lgg``, none of 17 patients of
val and test are outside. All of four patients with multiple sclerosis from other scanners are, two
of them skull-stripped."""
RIM = 3  # pixels

WORDS = {
    "head": "the share of the slice that is head",
    "brightness": "the mean in the head",
    "contrast": "the standard deviation over the mean in the head",
    "rim": f"the mean of the outer {RIM} pixels of the head over that of the whole head",
    "detail": "the mean gradient over the mean in the head",
}


def look_of(image: Array) -> Look | None:
    """Describe an image (Z, H, W) in [0, 1] by the median of each of WORDS over its slices.

    Returns None if fewer than three slices show a head.
    """
    shown = [z for z, slice_ in enumerate(image) if (slice_ > SIGNAL).mean() > COVERAGE]
    if len(shown) < FEWEST_SLICES:
        return None
    chosen = sorted({shown[int(k)] for k in np.linspace(0, len(shown) - 1, SLICES).round()})
    looks = [look for z in chosen if (look := _look(image[z]))]
    if not looks:
        return None
    return {name: float(np.median([look[name] for look in looks])) for name in WORDS}


def _look(image: Array) -> Look | None:
    """Describe one slice (H, W). Returns None if nothing in it has the size of a head."""
    from scipy import ndimage

    parts, count = ndimage.label(ndimage.binary_closing(image > SIGNAL, iterations=2))
    if not count:
        return None
    sizes = ndimage.sum_labels(parts > 0, parts, range(1, count + 1))
    head = ndimage.binary_fill_holes(parts == 1 + int(np.argmax(sizes)))
    rim = head & ~ndimage.binary_erosion(head, iterations=RIM)
    mean = float(image[head].mean())
    gradient = np.hypot(*np.gradient(image))
    return {
        "head": float(head.mean()),
        "brightness": mean,
        "contrast": float(image[head].std()) / mean,
        "rim": float(image[rim].mean()) / mean,
        "detail": float(gradient[head].mean()) / mean,
    }


class Looks:
    """Collects the looks of patients, one stack after another."""

    def __init__(self, modalities: Sequence[str]) -> None:
        self._found: dict[str, list[Look]] = {name: [] for name in modalities}

    def add(self, stack: Tensor) -> None:
        """Add a patient's stack (Z, M, H, W) in [0, 1]; a missing image is NaN."""
        for m, (_, looks) in enumerate(self._found.items()):
            image = stack[:, m].numpy()
            if not np.isnan(image).any() and (look := look_of(image)):
                looks.append(look)

    def ranges(self) -> dict[str, dict[str, tuple[float, float]]]:
        """Return {modality: {name: 5 % and 95 % quantile}}, without modalities of few patients."""
        found: dict[str, dict[str, tuple[float, float]]] = {}
        for modality, looks in self._found.items():
            if len(looks) < FEWEST_PATIENTS:
                continue
            found[modality] = {}
            for name in WORDS:
                low, high = np.quantile([look[name] for look in looks], (TAIL, 1 - TAIL))
                found[modality][name] = (round(float(low), 4), round(float(high), 4))
        return found


def unlike(image: Array, ranges: Ranges) -> list[str]:
    """List which of WORDS are far outside of their range in an image (Z, H, W) in [0, 1]."""
    if not ranges:
        return []
    look, said = look_of(image) or {}, []
    for name, value in look.items():
        low, high = ranges.get(name, (value, value))
        margin = WIDENED * (high - low)
        if not low - margin <= value <= high + margin:
            said.append(f"{WORDS[name]} is {value:.2f}, in training {low:.2f} to {high:.2f}")
    return said
