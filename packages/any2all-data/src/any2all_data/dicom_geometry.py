"""Check whether DICOM images form a volume and sort them; highdicom decides, this explains."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import numpy as np
from any2all_operators import UserError

from any2all_data.gantry import STRAIGHT, slice_shift, tilt

if TYPE_CHECKING:
    from pydicom import Dataset

LEAST_SLICES = 3
"""Smallest number of slices. With two, nothing tells whether one between them is missing."""
SAME_DIRECTION = 1e-3
"""Largest difference of direction cosines within one orientation (0.06°)."""
LARGEST = 2**31
"""Largest number of voxels in a series."""


def check_images(headers: Sequence[Dataset]) -> None:
    """Raise UserError unless all images are grey and have a position, orientation and spacing."""
    for header in headers:
        if not header.get("Rows") or not header.get("Columns"):
            raise UserError("not a volume: it holds no images")
        if header.get("SamplesPerPixel", 1) != 1 or not str(
            header.get("PhotometricInterpretation", "")
        ).startswith("MONOCHROME"):
            raise UserError("not a volume: colour images; expected one grey value per pixel")
        if int(header.get("NumberOfFrames") or 1) > 1:
            raise UserError("not a volume: several frames, but no functional groups with positions")
        kind = [str(value) for value in header.get("ImageType") or ()]
        if "MOSAIC" in kind:
            raise UserError(
                "not a volume: a mosaic with slices as tiles; export it as enhanced DICOM"
            )
        if "LOCALIZER" in kind:
            raise UserError("not a volume: localizer")
        for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"):
            if not header.get(keyword):
                raise UserError(f"not a volume: no {keyword}, so no geometry")
    if len(headers) * int(headers[0].Rows) * int(headers[0].Columns) > LARGEST:
        raise UserError(f"its header claims more than {LARGEST} voxels; export it again")


def stacked(headers: Sequence[Dataset]) -> tuple[float, list[int]]:
    """Return the distance of slices in mm, and the index of each image along their normal.

    Raises UserError that says why the images are no volume.
    """
    from highdicom.spatial import get_normal_vector, get_volume_positions

    orientations = np.array([h.ImageOrientationPatient for h in headers], float)
    positions = np.array([h.ImagePositionPatient for h in headers], float)
    placed = cast("Sequence[Sequence[float]]", positions)
    if not (np.isfinite(orientations).all() and np.isfinite(positions).all()):
        raise UserError("not a volume: position or orientation is not finite")
    if np.abs(orientations - orientations[0]).max() > SAME_DIRECTION:
        count = len(np.unique(np.round(orientations, 2), axis=0))
        raise UserError(f"mixed orientations: {count} in one series; expected parallel slices")
    row, column = orientations[0, :3], orientations[0, 3:]
    if not np.allclose([row @ row, column @ column, row @ column], [1, 1, 0], atol=1e-2):
        raise UserError("not a volume: ImageOrientationPatient is not two perpendicular directions")
    for what, keywords in {
        "image sizes": ("Rows", "Columns"),
        "spacings": ("PixelSpacing",),
    }.items():
        values = np.array([np.hstack([h[k].value for k in keywords]) for h in headers], float)
        if not (np.isfinite(values).all() and (values > 0).all()):
            raise UserError(f"not a volume: {' or '.join(keywords)} is not above 0")
        if not np.allclose(values, values[0], rtol=1e-3):
            raise UserError(f"not a volume: mixed {what} in one series")
    if len({str(h.get("FrameOfReferenceUID", "")) for h in headers}) > 1:
        raise UserError("not a volume: several frames of reference in one series")
    places = len(np.unique(positions, axis=0))
    if len(headers) == 1:
        raise UserError("not a volume: a single slice")
    if places < len(headers):
        differ = "s, and those at one place differ; leave one of them out" if places > 1 else ""
        raise UserError(f"not a volume: {len(headers)} images at {places} place{differ}")
    orientation = orientations[0]
    normal = get_normal_vector(orientation)
    along = np.sort(positions @ normal)
    gaps = np.diff(along)
    if gaps.min() < 1e-3 * max(gaps.max(), 1e-3):
        raise UserError("not a volume: its slices lie side by side in one plane")
    reasons = []
    tags = [abs(float(h.get("GantryDetectorTilt") or 0)) for h in headers]
    spacing, order = get_volume_positions(placed, orientation, rtol=np.inf)
    if headers[0].get("Modality") == "CT":
        by_height = positions[np.argsort(positions @ normal)]
        slice_shift(by_height, row, column, max(tags))
    elif spacing is None or max(tags) > STRAIGHT:
        reasons.append(
            f"gantry tilt: slices are stacked {tilt(positions, normal):.1f}° off their normal"
            + (f", GantryDetectorTilt {max(tags):.1f}°" if max(tags) > STRAIGHT else "")
        )
    if len(headers) < LEAST_SLICES:
        reasons.append(f"missing slices: there are {len(headers)}; expected {LEAST_SLICES} or more")
    spacing, order = get_volume_positions(placed, orientation, perpendicular_tol=2.0)
    if spacing is None:
        regular, _ = get_volume_positions(
            placed, orientation, perpendicular_tol=2.0, allow_missing_positions=True
        )
        lost = round((along[-1] - along[0]) / gaps.min()) + 1 - len(along)
        reasons.append(
            f"uneven increments: from {gaps.min():.3g} to {gaps.max():.3g} mm"
            if regular is None
            else f"missing slices: {lost} (increments of {gaps.min():.3g} to {gaps.max():.3g} mm)"
        )
    if reasons or spacing is None or order is None:
        raise UserError("; ".join(reasons))
    return float(spacing), [int(k) for k in order]
