"""Write the truth, every draw and the measurement as NIfTI, to judge a result."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import torch
from any2all_data.patient import write_slices, write_volume
from any2all_operators import Operator, Zero
from torch import Tensor

from any2all_app.measurement import PatientMeasurement
from any2all_app.report import LEAST_SQUARES_WEIGHT, NO_PLACE, placed

FOLDER = "details"
PARTS_OF_KSPACE = 8
"""Number of images that show a k-space measurement, each from a larger central part of it."""


def write_details(folder: Path, measurement: PatientMeasurement, draws: Tensor) -> None:
    """Write FOLDER/<modality>_<what>.nii.gz in physical units for all that was not given clean.

    <what> is truth, if it is known; draws, 4D with one frame per draw, if there are several; and
    measurement, an image, or 4D for k-space (see :func:`measurement_images`). All files are on the
    grid of the result's images. The argument ``draws`` is (D, B, M, H, W) in [0, 1].
    """
    for m, (name, operator) in enumerate(measurement.operator.operators.items()):
        if measurement.as_given(name):
            continue
        (folder / FOLDER).mkdir(exist_ok=True)
        path = functools.partial(_path, folder, name)
        if name in measurement.truth:
            _write(path("truth"), measurement, name, measurement.truth[name][None])
        if len(draws) > 1:
            _write(path("draws"), measurement, name, draws[:, :, m])
        if not isinstance(operator, Zero):
            images = measurement_images(operator, measurement.data[name])
            _write(path("measurement"), measurement, name, images)


def _path(folder: Path, name: str, what: str) -> Path:
    return folder / FOLDER / f"{name}_{what}.nii.gz"


def _write(path: Path, measurement: PatientMeasurement, name: str, frames: Tensor) -> None:
    """Write the frames (F, B, H, W) in [0, 1] of a modality."""
    values, own = measurement.ranges[name], measurement.own
    images = values.physical(measurement.in_place(frames[:, :, None])[:, :, 0].numpy())
    if own is not None:
        affine = placed(measurement).affine
        images = np.stack([own.resampled_back(image, affine, values.low) for image in images])
    images = images[0] if len(images) == 1 else images
    if own is not None:
        write_volume(path, images, own.like)
    elif measurement.volumes:
        write_volume(path, images, placed(measurement))
    else:
        write_slices(path, images, NO_PLACE)


def measurement_images(operator: Operator, data: Tensor) -> Tensor:
    """Show a measurement as images (F, B, H, W) in [0, 1] without a prior.

    k-space (B, C, H, W) gives PARTS_OF_KSPACE zero-filled images. They use the lines up to 1/8,
    2/8 ... of the largest distance from the centre. An image stays as it is. Any other measurement
    gives one frame, argmin 100 ‖A x − y‖² + ‖x‖².
    """
    if data.is_complex() and data.ndim == 4:
        width = data.shape[3]
        distance = (torch.arange(width) - width // 2).abs() / (width // 2)
        shares = torch.arange(1, PARTS_OF_KSPACE + 1) / PARTS_OF_KSPACE
        return torch.stack([operator.adjoint(data * (distance <= share)) for share in shares])
    image = operator.adjoint(data)
    if data.shape == image.shape:
        return data[None]
    return operator.prox(data, torch.zeros_like(image), LEAST_SQUARES_WEIGHT)[None]
